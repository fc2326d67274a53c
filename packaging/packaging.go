// Package packaging holds what the packages and `postern service install` have in common.
package packaging

import _ "embed"

// Unit is the systemd unit, for /usr/bin/postern and /etc/postern/postern.toml.
//
//go:embed postern.service
var Unit string
