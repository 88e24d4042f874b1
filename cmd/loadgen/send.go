package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// newClient is a client that opens as many connections as operations are under way, and
// keeps them. ca names the roots for https; the system's if empty.
func newClient(outstanding int, ca string) (*http.Client, error) {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		MaxIdleConns:        outstanding,
		MaxIdleConnsPerHost: outstanding,
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second,
		DisableCompression:  true,
	}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s holds no certificate", ca)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	return clientOver(transport), nil
}

// clientOver is a client that follows no redirects: they are no answers.
func clientOver(transport http.RoundTripper) *http.Client {
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// send sends the request and reads its answer to the end. fault is empty if it was answered
// as it wants, and else a short name of what came instead; err is a request that cannot be
// sent.
func (q request) send(ctx context.Context, client *http.Client, base string) (fault string, err error) {
	var body io.Reader
	if q.body != nil {
		body = bytes.NewReader(q.body)
	}
	req, err := http.NewRequestWithContext(ctx, q.method, base+q.path, body)
	if err != nil {
		return "", err
	}
	if q.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if q.authorization != "" {
		req.Header.Set("Authorization", q.authorization)
	}
	res, err := client.Do(req)
	if err != nil {
		return nameOf(err), nil
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return nameOf(err), nil
	}
	if !slices.Contains(q.want, res.StatusCode) {
		return strconv.Itoa(res.StatusCode), nil
	}
	return "", nil
}

// The names of faults that are no HTTP status.
const (
	faultTimeout  = "timeout"
	faultRefused  = "connection refused"
	faultReset    = "connection reset"
	faultNoAnswer = "no answer"
	faultNotSent  = "not sent"
)

// nameOf is the short name of why there was no answer: few names, so that they can be counted.
func nameOf(err error) string {
	var late net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &late) && late.Timeout():
		return faultTimeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return faultRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return faultReset
	default:
		return faultNoAnswer
	}
}
