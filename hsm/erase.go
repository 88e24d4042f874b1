//go:build !goexperiment.runtimesecret

package hsm

// MemoryErasure names what becomes of the host's copies of single-use keys that Go
// made on its own: "none" in this build; "runtime/secret" where the program is built
// with GOEXPERIMENT=runtimesecret.
const MemoryErasure = "none"

func erase(f func()) { f() }
