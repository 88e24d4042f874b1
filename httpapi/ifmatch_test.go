package httpapi

import "testing"

// The condition holds for the versions that are named by their ETags, and for no other.
func TestIfMatchNamesVersions(t *testing.T) {
	for name, test := range map[string]struct {
		header string
		holds  []bool // for the versions 0, which is none, to 3
	}{
		"any that there is":        {`*`, []bool{false, true, true, true}},
		"one":                      {`"2"`, []bool{false, false, true, false}},
		"one of several":           {`"1", "3"`, []bool{false, true, false, true}},
		"several, without a space": {`"1","2"`, []bool{false, true, true, false}},
		"with an empty element":    {`, "1" ,,`, []bool{false, true, false, false}},
		"beside a foreign tag":     {`"abc", "1"`, []bool{false, true, false, false}},
		"a weak tag":               {`W/"1"`, []bool{false, false, false, false}},
		"without quotes":           {`1`, []bool{false, false, false, false}},
		"in half quotes":           {`"1`, []bool{false, false, false, false}},
		"no version":               {`"0"`, []bool{false, false, false, false}},
		"with a sign":              {`"+1"`, []bool{false, false, false, false}},
		"with a leading zero":      {`"01"`, []bool{false, false, false, false}},
		"nothing":                  {``, []bool{false, false, false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			when := condition(&test.header)
			for version, holds := range test.holds {
				if when.Holds(int64(version)) != holds {
					t.Errorf("version %d: %v", version, !holds)
				}
			}
		})
	}
	if when := condition(nil); !when.Holds(0) || !when.Holds(7) {
		t.Error("without the header not everything holds")
	}
}
