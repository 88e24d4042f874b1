// Package outbound is the one way out: an HTTP client for what the operator has
// configured to be fetched or told elsewhere, and for nothing else.
//
//	client := outbound.New(outbound.Config{Timeout: 5 * time.Second, MaxBytes: 64 << 10})
//	defer client.Close()
//
//	doc, err := client.Get(ctx, "https://issuer.example/jwks.json", etag)
//	answer, err := client.Post(ctx, "https://network.example/v1/cards", "application/json", body, nil)
//
// What it promises: a call speaks https with a verified certificate, to an address on
// the public Internet unless the operator has listed another, and ends within the
// timeout with no more than MaxBytes of content in memory. It follows no redirect,
// takes no proxy from the environment, keeps no cookie, and asks for no compression.
//
// Addresses are looked at when the socket is about to connect, after all names are
// resolved: a name that answers with one address when checked and with another when
// used gains nothing. That an address is public does not make its owner a friend;
// addresses to call come from the configuration, never from a request.
//
// An [Error] names the host and one of a few problems in our own words. Neither the
// path nor the query of an address is in it, nor a word of what the peer sent.
//
// What is not guaranteed: nothing is retried, and a Post that fails may have arrived.
package outbound

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// What a zero Config means.
const (
	DefaultTimeout  = 10 * time.Second
	DefaultMaxBytes = 1 << 20
)

// maxHeaderBytes bounds the header of an answer.
const maxHeaderBytes = 32 << 10

// Config says what a Client may do.
type Config struct {
	Timeout   time.Duration  // for a call as a whole, name to last byte; 0: DefaultTimeout
	MaxBytes  int64          // of an answer's content; 0: DefaultMaxBytes
	Private   []netip.Prefix // addresses that may be called although they are not public
	Roots     *x509.CertPool // whose certificates are believed; nil: the system's
	UserAgent string         // how it introduces itself; empty: mintmark
}

// Client makes calls. Any number of goroutines may use it.
type Client struct {
	timeout   time.Duration
	maxBytes  int64
	userAgent string
	dialer    *net.Dialer
	transport *http.Transport
	http      *http.Client
}

// New gives a client. Close it at the end.
func New(cfg Config) *Client {
	c := &Client{
		timeout:   cmp.Or(max(cfg.Timeout, 0), DefaultTimeout),
		maxBytes:  cmp.Or(max(cfg.MaxBytes, 0), DefaultMaxBytes),
		userAgent: cmp.Or(cfg.UserAgent, "mintmark"),
		dialer:    &net.Dialer{Control: guard(cfg.Private).control},
	}
	c.transport = &http.Transport{
		Proxy:                  nil, // HTTPS_PROXY would make somebody else the peer whose address is checked
		DialContext:            c.dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.Roots},
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // what is small on the wire stays small in memory
		MaxResponseHeaderBytes: maxHeaderBytes,
		MaxIdleConns:           16,
		MaxConnsPerHost:        16,
		IdleConnTimeout:        30 * time.Second,
	}
	c.http = &http.Client{Transport: c.transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c
}

// Close closes connections that are not in use.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Document is what was fetched.
type Document struct {
	Body        []byte        // nil if NotModified
	ContentType string        // as the answer has it
	ETag        string        // the entity tag, empty if there is none
	MaxAge      time.Duration // of Cache-Control; 0 if there is none, or no-store or no-cache
	NotModified bool          // the content is that of the etag which was asked with
}

// Get fetches a document; if etag is not empty, on the condition that it has changed
// (RFC 9110, 13.1.2). Every status but 200, and 304 for a condition, is an error.
func (c *Client) Get(ctx context.Context, address, etag string) (Document, error) {
	header := http.Header{}
	if etag != "" {
		header.Set("If-None-Match", etag)
	}
	a, err := c.call(ctx, http.MethodGet, address, header, nil)
	switch {
	case err != nil:
		return Document{}, err
	case a.Status == http.StatusNotModified && etag != "":
		return Document{NotModified: true, ETag: a.Header.Get("ETag"), MaxAge: maxAge(a.Header)}, nil
	case a.Status != http.StatusOK:
		return Document{}, &Error{Host: hostOf(address), Problem: ProblemStatus, Status: a.Status}
	}
	return Document{
		Body: a.Body, ContentType: a.Header.Get("Content-Type"),
		ETag: a.Header.Get("ETag"), MaxAge: maxAge(a.Header),
	}, nil
}

// Answer is what a peer said to a Post.
type Answer struct {
	Status int // 200 to 599 without 3xx
	Header http.Header
	Body   []byte
}

// Post sends a body. An answer of any status but a redirect is an answer, not an
// error. header may be nil; it is not kept.
func (c *Client) Post(ctx context.Context, address, contentType string, body []byte, header http.Header) (Answer, error) {
	header = header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set("Content-Type", contentType)
	return c.call(ctx, http.MethodPost, address, header, body)
}

// call makes one call, start to end.
func (c *Client) call(ctx context.Context, method, address string, header http.Header, body []byte) (Answer, error) {
	host := hostOf(address)
	if err := CheckURL(address); err != nil {
		return Answer{}, &Error{Host: host, Problem: ProblemURL}
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return Answer{}, &Error{Host: host, Problem: ProblemURL}
	}
	req.Header = header
	req.Header.Set("User-Agent", c.userAgent)
	res, err := c.http.Do(req)
	if err != nil {
		return Answer{}, newError(ctx, host, err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode >= 300 && res.StatusCode < 400 && res.StatusCode != http.StatusNotModified {
		return Answer{}, &Error{Host: host, Problem: ProblemRedirect, Status: res.StatusCode}
	}
	content, err := io.ReadAll(io.LimitReader(res.Body, c.maxBytes+1))
	switch {
	case err != nil:
		return Answer{}, newError(ctx, host, err)
	case int64(len(content)) > c.maxBytes:
		return Answer{}, &Error{Host: host, Problem: ProblemTooLarge}
	}
	return Answer{Status: res.StatusCode, Header: res.Header, Body: content}, nil
}

// CheckURL says what keeps an address from being called, for the operator who
// configures it: it must be https, with a host, without user, password and fragment.
// The error does not repeat the address.
func CheckURL(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return errors.New("is not a URL")
	case u.Scheme != "https":
		return errors.New("must begin with https://")
	case u.Opaque != "" || u.Hostname() == "":
		return errors.New("has no host")
	case u.User != nil:
		return errors.New("must not hold a user name or password")
	case u.Fragment != "" || strings.Contains(address, "#"):
		return errors.New("must not have a fragment")
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("has a port that is none")
		}
	}
	return nil
}

// maxAge is how long an answer may be used by its Cache-Control (RFC 9111, 5.2.2).
func maxAge(h http.Header) (age time.Duration) {
	for _, directive := range strings.Split(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			if n, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
				age = time.Duration(n) * time.Second
			}
		}
	}
	return age
}
