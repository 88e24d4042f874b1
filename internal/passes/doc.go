// Package passes keeps the Wallet passes of tenants: it takes their documents, has them
// signed behind the gate, serves them to devices, and tells devices when they change.
//
//	service, err := passes.New(passes.Config{Recorder: log, Gate: gate, Rows: store, Devices: store, Now: time.Now}, settings)
//
//	stored, err := service.Put(ctx, caller, id, document, passes.Anything)   // issuer
//	pkpass, err := service.Fetch(ctx, id, credentials.Token, since)          // device
//
//	pusher := passes.NewPusher(service, …)
//	pusher.Run(ctx)
//
// A pass type is one that the configuration names, with its key; a tenant's client may give
// it a certificate, files and a template, which its passes share. A pass is the template
// with the pass's own members merged over it (RFC 7396) and the files of both.
//
// What devices rely on:
//
//   - Each version of a pass has a stamp that is greater than all before it in its tenant
//     and type, given out in the order in which versions become visible. A device that asks
//     for what is newer than the greatest stamp it was told therefore misses nothing.
//   - Each version's time of modification is at least a second after the one before.
//   - The authentication token of a pass never changes, nor does a pass disappear: one that
//     is deleted is served as voided.
//   - A push entry is written in the transaction of the change it is for, one for each push
//     token and pass type, and stays until the push service has taken it.
//
// What is not promised: a push may reach a device twice, where a process dies between the
// push and the note of it. Devices then ask once more.
//
// The content of passes is kept in the clear in the database, the authentication tokens
// with it. Of device identifiers, which are all that protects a device's list, the
// database has digests.
package passes
