//go:build !goexperiment.runtimesecret

package hsm

// MemoryErasure names what becomes of the host's copies of single-use keys that Go
// made on its own: "none" in this build; "runtime/secret" where the program is built
// with GOEXPERIMENT=runtimesecret.
const MemoryErasure = "none"

// Erase runs f, which must not call C.
func Erase(f func()) { f() }
