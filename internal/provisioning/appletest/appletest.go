// Package appletest is Apple's side of in-app provisioning, simulated: it makes
// certificates of the same shape as Apple's, and opens sealed payloads as Apple's
// servers would. Tests use it, and development mode, which has no Apple to talk to.
//
// It shares no code with the sealing side. Open is written from the scheme's
// description alone, so that a payload which it opens was sealed right, and not
// merely undone by the same mistake:
//
//	apple, err := appletest.New(time.Now())
//	issued, err := apple.Leaf()                          // what iOS hands the app
//	recipient, err := policy.Verify(issued.Chain())      // under TestAnchor(issued.Root.Raw)
//	…                                                    // seal to recipient
//	payload, err := appletest.Open(issued.LeafKey, ephemeralPublicKey, encrypted)
//
// # The chain
//
// As Apple's of 2018: a P-384 root, signed with SHA-384; below it a P-256
// intermediate, and below that a P-256 leaf, both signed with SHA-256. The leaf has
// critical key usage keyEncipherment and keyAgreement, no extended key usage, and the
// critical marker extension 1.2.840.113635.100.6.39 with value NULL. All names say that they are simulated.
// Each option of New and Leaf makes one defect, so that a policy can be shown to
// refuse it for that reason.
//
// # The scheme
//
// EV_ECC_v2, as it stands in public implementations and vectors (VectorV1 is one of
// them): Z is the X coordinate of ECDH on P-256; the key is one block of the
// single-step KDF of NIST SP 800-56A with SHA-256; the cipher is AES-256-GCM with
// twelve zero bytes as IV and no associated data.
//
// # What it is not
//
// The simulated root is worth nothing as protection: whoever reads its directory
// can read every payload sealed below it. A production environment cannot be
// configured to trust it.
package appletest
