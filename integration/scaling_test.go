package integration

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Rows of the tables of docs/scaling.md that are calculated with. A constant is a name and a
// number; a calculation has a formula over names that stand above it, and its result, which
// has a name too if others need it:
//
//	| `name` | 1.5 ms | where it is from |
//	| `name`: what it is | `formula` | 42 |
var (
	nameCell = regexp.MustCompile("^`(\\w+)`(?:$|[:,])")
	code     = regexp.MustCompile("^`([^`]+)`$")
	quantity = regexp.MustCompile(`^(\d[\d ]*(?:\.\d+)?)(?: .*)?$`)
)

// sheet is what is known by name while a document is read.
type sheet map[string]float64

// The worked examples of docs/scaling.md follow from its constants.
func TestSizingFollowsFromItsConstants(t *testing.T) {
	known, calculated := sheet{}, 0
	for i, line := range strings.Split(readFile(t, filepath.Join("..", "docs", "scaling.md")), "\n") {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if !strings.HasPrefix(line, "|") || len(cells) < 3 {
			continue
		}
		for j := range cells {
			cells[j] = strings.TrimSpace(cells[j])
		}
		name := nameCell.FindStringSubmatch(cells[0])
		formula := code.FindStringSubmatch(cells[1])
		if formula == nil {
			if v, _, ok := printed(cells[1]); ok && name != nil {
				known[name[1]] = v
			}
			continue
		}
		got, err := known.evaluate(formula[1])
		if err != nil {
			t.Errorf("line %d: %s: %v", i+1, formula[1], err)
			continue
		}
		want, step, ok := printed(cells[2])
		if !ok || math.Abs(got-want) > step/2*(1+1e-9) {
			t.Errorf("line %d: %s is %v, the document says %s", i+1, formula[1], got, cells[2])
		}
		if name != nil {
			known[name[1]] = got
		}
		calculated++
	}
	if len(known) < 20 || calculated < 20 {
		t.Errorf("%d names and %d calculations: the tables are not read", len(known), calculated)
	}
}

// printed reads a number with blanks between its thousands and a unit behind it, and gives
// the step of its last digit.
func printed(text string) (v, step float64, ok bool) {
	m := quantity.FindStringSubmatch(text)
	if m == nil {
		return 0, 0, false
	}
	digits := strings.ReplaceAll(strings.TrimSpace(m[1]), " ", "")
	v, err := strconv.ParseFloat(digits, 64)
	_, fraction, _ := strings.Cut(digits, ".")
	return v, math.Pow10(-len(fraction)), err == nil
}

// evaluate calculates a formula: numbers, names, + - * /, ceil, min and max.
func (s sheet) evaluate(formula string) (float64, error) {
	e, err := parser.ParseExpr(formula)
	if err != nil {
		return 0, err
	}
	return s.value(e)
}

func (s sheet) value(e ast.Expr) (float64, error) {
	switch e := e.(type) {
	case *ast.BasicLit:
		return strconv.ParseFloat(e.Value, 64)
	case *ast.Ident:
		v, ok := s[e.Name]
		if !ok {
			return 0, fmt.Errorf("nothing above it is called %s", e.Name)
		}
		return v, nil
	case *ast.ParenExpr:
		return s.value(e.X)
	case *ast.BinaryExpr:
		x, err := s.value(e.X)
		if err != nil {
			return 0, err
		}
		y, err := s.value(e.Y)
		switch e.Op {
		case token.ADD:
			return x + y, err
		case token.SUB:
			return x - y, err
		case token.MUL:
			return x * y, err
		case token.QUO:
			return x / y, err
		}
	case *ast.CallExpr:
		return s.call(e)
	}
	return 0, fmt.Errorf("%T is none of its forms", e)
}

func (s sheet) call(e *ast.CallExpr) (float64, error) {
	var args []float64
	for _, a := range e.Args {
		v, err := s.value(a)
		if err != nil {
			return 0, err
		}
		args = append(args, v)
	}
	f, _ := e.Fun.(*ast.Ident)
	switch {
	case f == nil:
	case f.Name == "ceil" && len(args) == 1:
		return math.Ceil(args[0] - 1e-9), nil
	case f.Name == "max" && len(args) == 2:
		return max(args[0], args[1]), nil
	case f.Name == "min" && len(args) == 2:
		return min(args[0], args[1]), nil
	}
	return 0, fmt.Errorf("%v is no function of it", e.Fun)
}
