// Package report is what an auditor gets: twelve questions about keys, log and host (A1 to
// A12), each with the evidence that was read at that moment and a verdict, signed.
//
//	r := report.Make(facts)                         // what was read, judged
//	text, err := r.JSON()                           // or r.HTML()
//	note, err := report.Sign(ctx, gate, r, text)    // one file: the text, and its signature
//	…
//	verified, err := report.Verify(note, trust)     // offline
//
// Facts are read by whoever calls: from the tokens, from the log and the database, from the
// running service and the host. Judging is pure: the same facts give the same verdicts, so
// that each verdict can be tested by facts that were prepared wrongly.
//
// A verdict is PASS, FAIL or NOT SUPPORTED. An item fails if one line of its evidence does.
// NOT SUPPORTED says that this token, build or set-up cannot show it, and is no PASS. What
// could not be read although it should be there fails: an auditor does not want to be told
// that nobody looked.
//
// A report is a signed note (https://c2sp.org/signed-note) whose text is the whole report, in
// JSON or HTML. One file is read, printed, kept and verified, with this program or with
// openssl (docs/report.md).
//
// What a report does not show: anything that the token, the kernel or this program's own
// binary lies about; what happened between two reports, but for the log; and that the host
// that it was made on is the one that serves, beyond what the running service said of itself.
package report
