//go:build !linux

package service

// Conceal does nothing: Windows keeps a service's memory from other users by itself, and from its own user cannot.
func Conceal() {}
