package service

import (
	"slices"
	"strconv"
	"strings"
)

// openToOthers returns the entries of a folder's ACL (in SDDL) that let in whoever should not read a sign-in: everyone,
// users, authenticated users, guests, anonymous or the network.
func openToOthers(sddl string) string {
	var foreign []string
	for _, ace := range allowed(sddl) {
		switch ace[5] {
		case "WD", "BU", "AU", "BG", "AN", "NU", "IU", "S-1-1-0", "S-1-5-11", "S-1-5-32-545", "S-1-5-32-546":
			foreign = append(foreign, "("+strings.Join(ace, ";")+")")
		}
	}
	return strings.Join(foreign, " ")
}

// allowed returns the entries that let somebody in, each by its six fields.
func allowed(sddl string) (aces [][]string) {
	for _, ace := range strings.Split(sddl, "(") {
		fields := strings.Split(strings.SplitN(ace, ")", 2)[0], ";")
		if len(fields) >= 6 && fields[0] == "A" {
			aces = append(aces, fields)
		}
	}
	return aces
}

// opensToService reports whether an ACL lets the service read and execute: by its account, or as one of those that every
// service is among (everyone, users, authenticated users, services).
func opensToService(sddl string) bool {
	who := []string{serviceSID(Name), "WD", "BU", "AU", "SU", "S-1-1-0", "S-1-5-32-545", "S-1-5-11", "S-1-5-6"}
	return slices.ContainsFunc(allowed(sddl), func(ace []string) bool {
		return slices.Contains(who, ace[5]) && !strings.Contains(ace[1], "IO") && executes(ace[2]) // IO: for what is made in it alone
	})
}

// executes reports whether rights of an SDDL, a number or names of two letters each, are enough to read and execute a file.
func executes(rights string) bool {
	if n, err := strconv.ParseUint(rights, 0, 32); err == nil {
		const readAndExecute, all, read, execute = 0x1200a9, 1 << 28, 1 << 31, 1 << 29
		return n&readAndExecute == readAndExecute || n&all != 0 || n&read != 0 && n&execute != 0
	}
	var read, execute bool
	for i := 0; i+1 < len(rights); i += 2 {
		switch rights[i : i+2] {
		case "FA", "GA":
			return true
		case "FR", "GR":
			read = true
		case "FX", "GX":
			execute = true
		}
	}
	return read && execute
}
