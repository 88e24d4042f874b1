// Package approval has changes made by two: one person proposes a change, another approves
// it within its time, and only then is it made. Both are on record.
//
//	changes, err := approval.New(approval.Config{
//		Recorder: log, Store: store, Now: time.Now,
//		Kinds: []approval.Kind{configuration}, Within: 24 * time.Hour, Lease: time.Minute,
//	})
//	c, err := changes.Propose(ctx, alice, "configuration", document)
//	…
//	c, err = changes.Approve(ctx, bob, c.ID, c.SHA256)   // makes the change
//
// A Kind is one sort of change: it brings a document into its one form and makes the change
// that the document describes. What is approved is that form, by its digest: the approver
// names the digest of what he looked at, and the kind gets the very bytes.
//
// A person is who the access package says he is: client (iss) and subject (sub), whichever of
// the client's keys signed. Two persons are two subjects of two clients. Where one client is
// an identity provider, which vouches for each sub, Separation may say so: then two subjects
// are enough.
//
// An approval goes these steps:
//
//  1. The change is looked up: open, in time, of the digest named, proposed by somebody else.
//     Whoever fails here is refused, on record.
//  2. Transaction: the change is claimed, and the intent recorded with the approver. Of any
//     number of approvals exactly one wins. A crash from here on leaves a lease that runs
//     out; the change is then open again, and may or may not have been made.
//  3. The kind makes the change.
//  4. Transaction, fenced: the change is applied, and recorded as done. A kind that failed
//     leaves it open, and that is on record too.
//
// What is not guaranteed: two people who agree to do wrong are two people. Whoever can write
// the configuration and start the process anew needs nobody; his start is on record with the
// digests of what it took. Whoever writes the database can put a proposal there, which the
// verification of the log shows afterwards. docs/dualcontrol.md.
package approval
