package main

import (
	"os"
	"os/exec"
	"runtime"
)

// browserHere reports whether a browser can be opened where the command line runs: with a desktop, and not from afar.
func browserHere() bool {
	if os.Getenv("SSH_CONNECTION") != "" && os.Getenv("DISPLAY") == "" {
		return false
	}
	if runtime.GOOS == "windows" {
		return true
	}
	if os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
		return false
	}
	_, err := exec.LookPath("xdg-open")
	return err == nil
}

// openBrowser has the desktop open the address, which is an http or https URL. No shell sees it.
func openBrowser(address string) error {
	name, args := "xdg-open", []string{address}
	if runtime.GOOS == "windows" {
		name, args = "rundll32.exe", []string{"url.dll,FileProtocolHandler", address}
	}
	cmd := exec.Command(name, args...)
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release() // it may live as long as the browser does
}
