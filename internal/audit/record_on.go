//go:build !benchbare

package audit

// records says that operations are committed to the log.
const records = true
