package audit

import (
	"context"
	"encoding/json"
)

// Poster posts to a URL of the configuration.
type Poster interface {
	// Post sends a body; nil says that the server answered with 2xx.
	Post(ctx context.Context, url, contentType string, body []byte) error
}

// WebhookAnchor posts checkpoints to a URL, one JSON object each: a service that keeps
// them, or a witness behind an adapter.
type WebhookAnchor struct {
	URL    string
	Poster Poster
}

// Name is "webhook" and the URL.
func (w *WebhookAnchor) Name() string { return "webhook " + w.URL }

// Keep posts a checkpoint.
func (w *WebhookAnchor) Keep(ctx context.Context, c Checkpoint) error {
	body, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return w.Poster.Post(ctx, w.URL, "application/json", body)
}
