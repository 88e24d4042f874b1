package httpapi

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// A chart is lines over time, as SVG made here: the console has no script. What it shows
// stands in a table beside it.
type chart struct {
	ID, Title, Description string
	Lines                  []chartLine
	Levels                 []chartMark // of the vertical axis
	Times                  []chartMark // of the horizontal one
}

// A chartLine is one line. Class is how it is drawn; Pieces are its parts between the times
// of which nothing is known, as the points of polylines.
type chartLine struct {
	Name, Class string
	Pieces      []string
}

// A chartMark is a place on an axis.
type chartMark struct{ At, Text string }

func mark(at float64, text string) chartMark { return chartMark{fmt.Sprintf("%.1f", at), text} }

// The room for the lines in the SVG's own units, which chart.html knows too.
const (
	chartLeft, chartRight = 64, 708
	chartTop, chartBottom = 12, 168
)

// A curve is what a line shows: a value for a period, or none.
type curve struct {
	name, class string
	value       func(period) (float64, bool)
}

// draw makes the chart of curves over periods; form writes a value.
func draw(id, title string, over []period, form func(float64) string, curves ...curve) chart {
	c := chart{ID: id, Title: title}
	if len(over) == 0 {
		return c
	}
	most := 0.0
	said := []string{fmt.Sprintf("From %s to %s UTC.", clock(over[0].From), clock(over[len(over)-1].To))}
	for _, cu := range curves {
		peak, last := 0.0, "none"
		for _, p := range over {
			if v, ok := cu.value(p); ok {
				peak, last = max(peak, v), form(v)
			}
		}
		most = max(most, peak)
		said = append(said, fmt.Sprintf("%s: at most %s, last %s.", cu.name, form(peak), last))
	}
	c.Description = strings.Join(said, " ")
	top := roundUp(most)
	for _, part := range []float64{0, 0.5, 1} {
		c.Levels = append(c.Levels, mark(chartBottom-part*(chartBottom-chartTop), form(part*top)))
	}
	begin, end := over[0].From, over[len(over)-1].To
	x := func(at time.Time) float64 {
		return chartLeft + (chartRight-chartLeft)*float64(at.Sub(begin))/float64(max(end.Sub(begin), 1))
	}
	c.Times = timeMarks(begin, end, x)
	for _, cu := range curves {
		line := chartLine{Name: cu.name, Class: cu.class}
		var piece []string
		for _, p := range over {
			v, ok := cu.value(p)
			if !ok {
				line.add(piece)
				piece = nil
				continue
			}
			y := chartBottom - v/top*(chartBottom-chartTop)
			// A period is a step: what it shows held all the time.
			piece = append(piece, fmt.Sprintf("%.1f,%.1f %.1f,%.1f", x(p.From), y, x(p.To), y))
		}
		line.add(piece)
		c.Lines = append(c.Lines, line)
	}
	return c
}

func (l *chartLine) add(piece []string) {
	if len(piece) > 0 {
		l.Pieces = append(l.Pieces, strings.Join(piece, " "))
	}
}

// timeMarks are the whole minutes between two times, as many as there is room for.
func timeMarks(begin, end time.Time, x func(time.Time) float64) []chartMark {
	const most = 7
	step := time.Minute
	for _, wider := range []time.Duration{2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute} {
		if end.Sub(begin)/step > most {
			step = wider
		}
	}
	var all []chartMark
	for at := begin.UTC().Truncate(step).Add(step); !at.After(end); at = at.Add(step) {
		all = append(all, mark(x(at), clock(at)))
	}
	return all
}

// roundUp gives the least of 1, 2 and 5 times a power of ten that is not below v.
func roundUp(v float64) float64 {
	if v <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{1, 2, 5} {
		if v <= n*unit {
			return n * unit
		}
	}
	return 10 * unit
}

func clock(at time.Time) string { return at.UTC().Format("15:04") }

// perSecond writes a rate.
func perSecond(v float64) string {
	switch {
	case v >= 100 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case v >= 1:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// asMilliseconds writes a time that is given in seconds.
func asMilliseconds(v float64) string {
	switch ms := v * 1000; {
	case ms >= 10 || ms == math.Trunc(ms):
		return fmt.Sprintf("%.0f ms", ms)
	default:
		return fmt.Sprintf("%.2f ms", ms)
	}
}
