package webservice

import "strconv"

// Version is the one version of the protocol.
const Version = "v1"

// legacyBelow divides tags: smaller numbers are seconds, as tags once were; these are
// milliseconds until the year 5138 in the one reading and from 1973 on in the other.
const legacyBelow = 1e11

// maxTagDigits keeps a tag within 63 bits.
const maxTagDigits = 18

// ParseTag reads the tag of passesUpdatedSince: milliseconds since 1970, or seconds in
// tags from older servers. A tag that cannot be read is 0, which is before everything: a
// device that gets too much loses nothing, one that is refused never updates again.
func ParseTag(s string) int64 {
	if s == "" || len(s) > maxTagDigits {
		return 0
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	if n < legacyBelow {
		return n * 1000
	}
	return n
}

// FormatTag writes a tag.
func FormatTag(millis int64) string { return strconv.FormatInt(millis, 10) }
