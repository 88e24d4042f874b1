package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A metric as its definition in the source has it.
type metric struct{ name, kind, help, labels string }

// metricsPage has every metric that mintmark itself defines.
func metricsPage(t *testing.T) string {
	var b strings.Builder
	b.WriteString("# Metrics\n\n" + generatedNote + `
` + "`GET /metrics`" + ` on the admin listener, in Prometheus' text format. Beside these are the Go
runtime's own (` + "`go_…`" + `) and the process's (` + "`process_…`" + `). Labels have few values: routes are
templates, members, purposes and keys those of the configuration; nothing of a caller, a card
or a token is ever one.

| metric | kind | labels | |
|---|---|---|---|
`)
	all := definedMetrics(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := all[name]
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.name, m.kind, m.labels, m.help)
	}
	return b.String()
}

// definedMetrics reads the definitions: prometheus.NewDesc, and the options of the others.
func definedMetrics(t *testing.T) map[string]metric {
	all := map[string]metric{}
	add := func(m metric) {
		if m.name == "" || m.help == "" || all[m.name] != (metric{}) {
			t.Errorf("metric %q is defined without name or help, or twice", m.name)
		}
		all[m.name] = m
	}
	eachFile(t, "../../httpapi", func(f *ast.File) {
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			made, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || fmt.Sprint(made.X) != "prometheus" {
				return true
			}
			if made.Sel.Name == "NewDesc" {
				add(metric{texts(call.Args[0])[0], kindByName(texts(call.Args[0])[0]), texts(call.Args[1])[0], labelList(texts(call.Args[2]))})
				return true
			}
			if opts, ok := call.Args[0].(*ast.CompositeLit); ok {
				add(byOptions(opts, call.Args[1:]))
			}
			return true
		})
	})
	return all
}

// kindByName is the kind that Prometheus' rule of names gives; that what is served is of that
// kind the tests of integration look at.
func kindByName(name string) string {
	if strings.HasSuffix(name, "_total") {
		return "counter"
	}
	return "gauge"
}

// byOptions is a metric of prometheus.NewCounterVec and its like.
func byOptions(opts *ast.CompositeLit, further []ast.Expr) metric {
	kind := strings.ToLower(strings.TrimSuffix(opts.Type.(*ast.SelectorExpr).Sel.Name, "Opts"))
	m := metric{kind: kind}
	var labels []string
	for _, e := range opts.Elts {
		field := e.(*ast.KeyValueExpr)
		switch fmt.Sprint(field.Key) {
		case "Name":
			m.name = texts(field.Value)[0]
		case "Help":
			m.help = texts(field.Value)[0]
		case "ConstLabels":
			for _, l := range field.Value.(*ast.CompositeLit).Elts {
				labels = append(labels, texts(l.(*ast.KeyValueExpr).Key)...)
			}
		}
	}
	for _, e := range further {
		labels = append(labels, texts(e)...)
	}
	m.labels = labelList(labels)
	return m
}

// texts are the literal texts in an expression, in order.
func texts(e ast.Expr) (all []string) {
	if _, ok := e.(*ast.FuncLit); ok {
		return nil
	}
	ast.Inspect(e, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			text, _ := strconv.Unquote(lit.Value) // the parser took it
			all = append(all, text)
		}
		return true
	})
	return all
}

func labelList(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "`" + strings.Join(names, "`, `") + "`"
}
