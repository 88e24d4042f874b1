// Package integration holds the end-to-end tests: the real binary, built with the race
// detector, in processes of its own, against a real SoftHSM token, with the simulated
// Apple on the other side. Independent programs (node, openssl) check what comes out;
// package faultmodule stands between mintmark and the token where a test counts calls
// or makes them fail. What the development server does not show, such as two tenants, TLS
// or a reload, is tested with mintmark serve on a site: a folder that a test makes as an
// operator would.
//
// Measurements stand outside the tests, each behind a build tag and a target of the
// Makefile: faults has each fault under load and prints the table that docs keep, soak
// does hundreds of thousands of operations and looks for what grows, bench holds what is
// served against a raw loop in C (docs/performance.md), cost counts what each operation
// leaves behind (docs/scaling.md). That bench measures at all is tested with everything else.
package integration
