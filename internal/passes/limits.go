package passes

import "fmt"

// Limits bound what a tenant, or anybody with a pass, can have kept here; 0 is no limit.
type Limits struct {
	Files         int   // that a tenant has uploaded
	FileBytes     int64 // that they have together
	Registrations int   // of one pass
}

// A QuotaError says that what was to be kept is beyond a limit.
type QuotaError struct{ Of string } // files or registrations

// Error names what there is too much of.
func (e *QuotaError) Error() string { return fmt.Sprintf("there are too many %s", e.Of) }
