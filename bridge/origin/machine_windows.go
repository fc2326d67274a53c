package origin

import "golang.org/x/sys/windows/registry"

// Machine is a hash of the MachineGuid that Windows makes when it is installed; "" where there is none.
func Machine() string {
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, `SOFTWARE\Microsoft\Cryptography`, registry.QUERY_VALUE|registry.WOW64_64KEY)
	if err != nil {
		return ""
	}
	defer k.Close()
	id, _, err := k.GetStringValue("MachineGuid")
	if err != nil {
		return ""
	}
	return hashMachine(id)
}
