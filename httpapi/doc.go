// Package httpapi is the outside of mintmark: Gin routes, strict decoding, problems,
// and the admin listener with health and metrics. It holds no business rule and no
// key: a handler decodes, asks the domain through a small interface, and answers.
//
//	api := httpapi.New(httpapi.Config{Verifier: verifier, Provisioning: service, …})
//	srv := httpapi.Server(api, "127.0.0.1:8080")
//
// The contract is openapi.yaml beside this file; types and routes are generated from it
// (openapi.gen.go). What the generated code would decode leniently is decoded here:
// unknown members, duplicate members, trailing data and other letter cases are refused.
//
// The console (console.go) is pages for people, from templates without script, on the admin
// listener or one of its own; its charts are drawn here, from samples of the metrics.
//
// Nothing of a request is repeated in an answer or a log line: no body, no token, no
// query, no decoder's error.
package httpapi

//go:generate go tool -modfile=../tools/go.mod oapi-codegen -config oapi-codegen.yaml openapi.yaml
