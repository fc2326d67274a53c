package service

import "strings"

// openToOthers returns the entries of a folder's ACL (in SDDL) that let in whoever should not read a sign-in: everyone,
// users, authenticated users, guests, anonymous or the network.
func openToOthers(sddl string) string {
	var foreign []string
	for _, ace := range strings.Split(sddl, "(") {
		fields := strings.Split(strings.TrimSuffix(strings.SplitN(ace, ")", 2)[0], ")"), ";")
		if len(fields) < 6 || fields[0] != "A" {
			continue
		}
		switch fields[5] {
		case "WD", "BU", "AU", "BG", "AN", "NU", "IU", "S-1-1-0", "S-1-5-11", "S-1-5-32-545", "S-1-5-32-546":
			foreign = append(foreign, "("+strings.Join(fields, ";")+")")
		}
	}
	return strings.Join(foreign, " ")
}
