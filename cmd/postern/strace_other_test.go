//go:build !linux

package main

import "testing"

func needsStrace(t *testing.T) { t.Skip("strace is a program of Linux") }

func (k *killing) inject(string, ...string) (detach func()) {
	k.t.Skip("strace is a program of Linux")
	return nil
}
