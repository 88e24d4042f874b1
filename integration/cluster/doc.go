// Package cluster holds the end-to-end tests of several replicas: two `mintmark serve`
// processes from one configuration on one PostgreSQL, each with a token of its own that holds
// the same keys, as replicated HSMs do; behind them the simulated Apple, its push service, a
// payment network and wallet devices (package actors), before them HAProxy with the
// configuration in deploy.
//
// The tests here are short. `make cluster` measures restarts under load and what a second
// replica is worth; `make linearizability` has nonces claimed through both replicas while
// they and the database are killed and paused, and holds what the callers saw against a model.
package cluster
