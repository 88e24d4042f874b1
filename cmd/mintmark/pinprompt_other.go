//go:build !linux

package main

import (
	"context"
	"errors"
	"io"
)

// promptPIN needs a file in memory, which is Linux's.
func promptPIN(context.Context, io.Writer, string) (path string, remove func(), err error) {
	return "", nil, errors.New("the PIN is asked for on Linux alone; name a file")
}
