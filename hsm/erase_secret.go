//go:build goexperiment.runtimesecret

package hsm

import rtsecret "runtime/secret"

// MemoryErasure names what becomes of the host's copies of single-use keys that Go
// made on its own: registers, stack and heap are erased by runtime/secret.
const MemoryErasure = "runtime/secret"

// Erase runs f so that what it leaves in registers, on the stack and in dead heap
// memory is erased. f must not call C: Go 1.26 crashes on cgo inside secret.Do
// (golang/go#78999).
func Erase(f func()) { rtsecret.Do(f) }
