// Command compare sets two runs of make bench, or of mintmark bench, side by side:
//
//	go run ./bench/compare old.json new.json
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mintmark/mintmark/bench"
)

func main() {
	if err := compare(os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func compare(out io.Writer, paths []string) error {
	if len(paths) != 2 {
		return errors.New("name two files that make bench wrote")
	}
	var runs [2]bench.Report
	for i, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		runs[i], err = bench.ReadJSON(f)
		_ = f.Close() // it was read
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return bench.WriteComparison(out, runs[0], runs[1])
}
