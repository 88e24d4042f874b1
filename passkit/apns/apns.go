// Package apns tells devices, through Apple's push service, that a pass has changed: the
// one message that Wallet knows, an empty one. Devices then ask the web service.
//
//	client, err := apns.New(apns.Config{Certificate: tlsCertificate}) // the pass certificate
//	defer client.Close()
//	switch r := client.Push(ctx, "pass.com.example.card", pushToken); r.Outcome {
//	case apns.Sent:         // the push service has it
//	case apns.Unregistered: // forget registrations not renewed since r.Since
//	case apns.BadToken:     // forget the registrations with this token
//	case apns.Later:        // try again after r.RetryAfter, or by one's own measure
//	case apns.Stop:         // the certificate or the pass type is refused: nothing will go through
//	case apns.Refused:      // this message is refused, for r.Reason
//	}
//
// The certificate's key may be any crypto.Signer. With an RSA key that makes
// RSASSA-PKCS1-v1_5 signatures only, as HSMs often do, TLS stays at 1.2: version 1.3
// demands RSASSA-PSS.
package apns

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// ProductionHost is where passes are pushed: there is no sandbox for them.
const ProductionHost = "api.push.apple.com"

// Config says how to reach the push service.
type Config struct {
	Certificate tls.Certificate // the pass certificate, its intermediates and key
	Host        string          // host or host:port; empty: ProductionHost
	Roots       *x509.CertPool  // who may certify the host; nil: the system's
	MaxTLS      uint16          // tls.VersionTLS12 or 13; 0: 1.2 for RSA keys, 1.3 for others
	PushType    string          // the header apns-push-type; empty: none is sent
	Timeout     time.Duration   // of one push; 0: 10 s
	// Dial connects; nil: net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// A Client pushes for one pass certificate. It is safe for concurrent use.
type Client struct {
	http     *http.Client
	base     string
	pushType string
	timeout  time.Duration
}

// ErrTLS is returned for an RSA key with a MaxTLS of 1.3.
var ErrTLS = errors.New("an RSA key needs RSASSA-PSS for TLS 1.3, which keys in a token are not made for; leave TLS at 1.2")

// New gives a client. It does not connect yet.
func New(cfg Config) (*Client, error) {
	if cfg.Certificate.Leaf == nil || cfg.Certificate.PrivateKey == nil {
		return nil, errors.New("apns: a certificate with its parsed leaf and a key are needed")
	}
	_, ec := cfg.Certificate.Leaf.PublicKey.(*ecdsa.PublicKey)
	switch {
	case cfg.MaxTLS == 0 && ec:
		cfg.MaxTLS = tls.VersionTLS13
	case cfg.MaxTLS == 0:
		cfg.MaxTLS = tls.VersionTLS12
	case cfg.MaxTLS == tls.VersionTLS13 && !ec:
		return nil, fmt.Errorf("apns: %w", ErrTLS)
	}
	cert := cfg.Certificate
	if !ec { // Go offers PSS first with TLS 1.2 too
		cert.SupportedSignatureAlgorithms = []tls.SignatureScheme{tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512}
	}
	host := cfg.Host
	if host == "" {
		host = ProductionHost
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	transport := &http.Transport{
		Proxy:             nil, // a proxy would see nothing, and be one more that can fail
		DialContext:       cfg.Dial,
		ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, MaxVersion: cfg.MaxTLS, RootCAs: cfg.Roots,
			// The server's list of acceptable CAs is not asked: there is one certificate.
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
		},
		TLSHandshakeTimeout: cfg.Timeout,
		MaxConnsPerHost:     4,
		IdleConnTimeout:     30 * time.Minute, // Apple asks for connections to be kept
		HTTP2:               &http.HTTP2Config{SendPingTimeout: time.Minute, PingTimeout: 15 * time.Second},
	}
	return &Client{
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		base: "https://" + host + "/3/device/", pushType: cfg.PushType, timeout: cfg.Timeout,
	}, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Outcome is what came of a push.
type Outcome string

// The outcomes.
const (
	Sent         Outcome = "sent"
	Unregistered Outcome = "unregistered" // 410: the token was good until Since
	BadToken     Outcome = "bad-token"    // 400: it never was, or not with this topic
	Later        Outcome = "later"        // 404, 405, 413, 429, 5xx, or nobody answered
	Stop         Outcome = "stop"         // 403, or 400 for the topic or a header: all others are refused too
	Refused      Outcome = "refused"      // another 4xx
)

// A Result is what came of a push.
type Result struct {
	Outcome    Outcome
	Reason     string        // the push service's word, or what was met on the way
	Since      time.Time     // Unregistered only; zero if it did not say
	RetryAfter time.Duration // Later only; 0 if it did not say
}

// maxAnswer bounds the body of an answer in bytes.
const maxAnswer = 4 << 10

// Push tells the device behind a push token that a pass of the topic, its pass type, has
// changed. It does not try twice.
func (c *Client) Push(ctx context.Context, topic, pushToken string) Result {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+pushToken, bytes.NewReader([]byte("{}")))
	if err != nil {
		return Result{Outcome: BadToken, Reason: "the token cannot stand in an address"}
	}
	req.Header.Set("apns-topic", topic)
	if c.pushType != "" {
		req.Header.Set("apns-push-type", c.pushType)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return Result{Outcome: Later, Reason: "no answer"}
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return Result{Outcome: Later, Reason: "the answer ended early"}
	}
	return read(res, body)
}

// read is the table of answers.
func read(res *http.Response, body []byte) Result {
	var said struct {
		Reason    string `json:"reason"`
		Timestamp int64  `json:"timestamp"` // milliseconds since 1970
	}
	_ = json.Unmarshal(body, &said) // an answer without a body has no reason
	r := Result{Outcome: Refused, Reason: word(said.Reason)}
	switch {
	case res.StatusCode == http.StatusOK:
		return Result{Outcome: Sent}
	case res.StatusCode == http.StatusGone:
		r.Outcome = Unregistered
		if said.Timestamp > 0 {
			r.Since = time.UnixMilli(said.Timestamp).UTC()
		}
	case res.StatusCode == http.StatusBadRequest:
		r.Outcome = badRequest(said.Reason)
	case res.StatusCode == http.StatusForbidden:
		r.Outcome = Stop
	case res.StatusCode == http.StatusNotFound, res.StatusCode == http.StatusMethodNotAllowed, res.StatusCode == http.StatusRequestEntityTooLarge:
		r.Outcome = Later // our own mistake, or of something on the way: the device is not to pay for it
	case res.StatusCode == http.StatusTooManyRequests, res.StatusCode >= 500:
		r.Outcome = Later
		if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && s > 0 {
			r.RetryAfter = time.Duration(min(s, 24*3600)) * time.Second
		}
	}
	if r.Reason == "" {
		r.Reason = "status " + strconv.Itoa(res.StatusCode)
	}
	return r
}

// badRequest is the table of the reasons that come with status 400.
func badRequest(reason string) Outcome {
	switch reason {
	case "BadDeviceToken", "DeviceTokenNotForTopic", "MissingDeviceToken":
		return BadToken
	case "TopicDisallowed", "BadTopic", "MissingTopic", "InvalidPushType", "BadCollapseId", "BadExpirationDate", "BadMessageId",
		"BadPriority", "DuplicateHeaders", "PayloadEmpty": // so would all that follow be answered
		return Stop
	case "IdleTimeout":
		return Later
	}
	return Refused
}

// word bounds what a peer can put into logs.
func word(s string) string {
	for i := range len(s) {
		if c := s[i]; !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9') {
			return ""
		}
	}
	return s[:min(len(s), 64)]
}
