package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Each gives entries from sequence number from on, in order.
func Each(ctx context.Context, s Source, from uint64, visit func(Row) error) error {
	for {
		rows, err := s.Rows(ctx, from, page)
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, r := range rows {
			if err := visit(r); err != nil {
				return err
			}
		}
		next := rows[len(rows)-1].Seq + 1
		if next <= from { // or reading would never end
			return fmt.Errorf("entry %d was given for those from %d on", next-1, from)
		}
		from = next
	}
}

// Filter says which entries are wanted: those that all conditions hold for. An empty one
// holds for all.
type Filter struct {
	Tenant    string
	Kind      Kind
	Operation string // its result's entry is found with the intent's
	Ticket    string
	Ref       string // a value anywhere among the body's identifiers and digests
	Since     time.Time
	Until     time.Time // not included

	tickets map[string]bool // of intents whose operation is wanted
}

// Matches reports whether an entry is wanted. Entries must come in order.
func (f *Filter) Matches(r Row) bool {
	operation := f.Operation == "" || f.isOperation(r)
	return operation &&
		(f.Tenant == "" || r.Tenant == f.Tenant) &&
		(f.Kind == "" || r.Kind == f.Kind) &&
		(f.Ticket == "" || r.Ticket == f.Ticket) &&
		(f.Since.IsZero() || !r.At.Before(f.Since)) &&
		(f.Until.IsZero() || r.At.Before(f.Until)) &&
		(f.Ref == "" || holds(r.Body, f.Ref))
}

// isOperation reports whether an entry is of the wanted operation. A result does not name
// it; its intent did.
func (f *Filter) isOperation(r Row) bool {
	if r.Kind == KindResult {
		return f.tickets[r.Ticket]
	}
	var body struct {
		Operation string `json:"operation"`
		Intent    struct {
			Operation string `json:"operation"`
		} `json:"intent"`
	}
	_ = json.Unmarshal(r.Body, &body) // an expired body names none
	if body.Operation != f.Operation && body.Intent.Operation != f.Operation {
		return false
	}
	if r.Kind == KindIntent {
		if f.tickets == nil {
			f.tickets = map[string]bool{}
		}
		f.tickets[r.Ticket] = true
	}
	return true
}

// holds reports whether a text stands as a value in a JSON body.
func holds(body []byte, text string) bool {
	var v any
	return json.Unmarshal(body, &v) == nil && holdsValue(v, text)
}

func holdsValue(v any, text string) bool {
	switch v := v.(type) {
	case string:
		return v == text
	case map[string]any:
		for _, one := range v {
			if holdsValue(one, text) {
				return true
			}
		}
	case []any:
		for _, one := range v {
			if holdsValue(one, text) {
				return true
			}
		}
	}
	return false
}
