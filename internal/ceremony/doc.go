// Package ceremony makes, takes over and destroys keys as two named people have it written
// down and signed: one reviewed file says what is done (Plan), each of them signs it with a
// key of their own (Plan.Verify), and what was done is a signed transcript (Transcript).
//
//	plan, err := ceremony.Parse(text)
//	err = plan.Check(ring, now)                      // all that is wrong, without a token
//	people, err := plan.Verify(signatures, now)
//	err = plan.Rehearse(ctx, place)                  // what the token says to it; changes nothing
//	done, err := plan.Run(ctx, place)                // in the token
//
// What it changes it changes on the token: keys made and destroyed. The keyring that comes of
// it is given to be reviewed and put in place by people; until then no service uses a key.
//
// What it does not promise: that the two people are two. Software beside the HSM records
// dual control and cannot enforce it; whoever has the token's PIN can do all of this by other
// means. And it is no transaction: a run that fails half-way leaves what was done, which the
// transcript and the inventory show, as keys that nothing lists.
package ceremony
