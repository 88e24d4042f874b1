// Package integration holds the end-to-end tests: the real binary, built with the race
// detector, in processes of its own, against a real SoftHSM token, with the simulated
// Apple on the other side. Independent programs (node, openssl) check what comes out;
// package faultmodule stands between mintmark and the token where a test counts calls
// or makes them fail.
package integration
