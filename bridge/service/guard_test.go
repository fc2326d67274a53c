package service

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// me installs; mallory is a user of the machine without rights.
const me, mallory = "S-1-5-21-1-2-3-500", "S-1-5-21-1-2-3-1007"

// usualPlaces are those of an .msi.
var usualPlaces = Options{Program: `C:\Program Files\Postern\postern.exe`, Config: `C:\ProgramData\Postern\postern.toml`, DataDir: `C:\ProgramData\Postern`}

// testKeeper has the given objects, and notes what is set.
func testKeeper(objects ...object) (k keeper, set *[]string) {
	set = &[]string{}
	owners := map[string]string{}
	rights := map[string]string{}
	for _, o := range objects {
		owners[o.path] = o.owner
	}
	return keeper{
		self: me, profiles: `C:\Users`, common: []string{`C:\Windows`, `C:\Program Files`, `C:\ProgramData`},
		list: func(root string) (found []object, err error) {
			for _, o := range objects {
				if inside(o.path, root) {
					found = append(found, o)
				}
			}
			return found, nil
		},
		own: func(path string) error {
			*set = append(*set, path+" O:BA")
			owners[path] = administrators
			return nil
		},
		write: func(path, sddl string) error {
			*set = append(*set, path+" "+sddl)
			if strings.HasPrefix(sddl, "O:BA") {
				owners[path] = administrators
			}
			rights[path] = sddl
			return nil
		},
		read: func(path string) (owner, dacl string, err error) { return owners[path], rights[path], nil },
	}, set
}

func TestServiceSID(t *testing.T) {
	for name, want := range map[string]string{ // as every Windows has them
		"TrustedInstaller": "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464",
		"wuauserv":         "S-1-5-80-1014140700-3308905587-3330345912-272242898-93311788",
	} {
		if got := serviceSID(name); got != want {
			t.Errorf("serviceSID(%s) = %s; want %s", name, got, want)
		}
	}
}

func TestPlaces(t *testing.T) {
	for _, tc := range []struct {
		name string
		o    Options
		want []guarded
	}{
		{"one folder for both", usualPlaces, []guarded{{`C:\ProgramData\Postern`, false, "FA"}}},
		{"data_dir below the configuration", Options{Config: usualPlaces.Config, DataDir: `C:\ProgramData\Postern\data`},
			[]guarded{{`C:\ProgramData\Postern`, false, "0x1200a9"}, {`C:\ProgramData\Postern\data`, false, "FA"}}},
		{"data_dir elsewhere", Options{Config: `c:\programdata\POSTERN\postern.toml`, DataDir: `D:\mail`},
			[]guarded{{`c:\programdata\POSTERN`, false, "0x1200a9"}, {`D:\mail`, false, "FA"}}},
		{"a log beside the configuration", Options{Config: usualPlaces.Config, DataDir: `D:\mail`, LogFile: `C:\ProgramData\Postern\log\p.log`},
			[]guarded{{`C:\ProgramData\Postern`, false, "FA"}, {`D:\mail`, false, "FA"}}},
		{"a folder that is not Postern's own", Options{Config: `C:\etc\postern.toml`, DataDir: `D:\mail`},
			[]guarded{{`C:\etc\postern.toml`, true, "0x1200a9"}, {`D:\mail`, false, "FA"}}},
		{"a name that only begins alike", Options{Config: `D:\mail2\postern.toml`, DataDir: `D:\mail`},
			[]guarded{{`D:\mail2\postern.toml`, true, "0x1200a9"}, {`D:\mail`, false, "FA"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := places(tc.o); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("places = %v; want %v", got, tc.want)
			}
		})
	}
}

func TestRefuse(t *testing.T) {
	with := func(change func(*Options)) Options { o := usualPlaces; change(&o); return o }
	const folder = `C:\ProgramData\Postern`
	for _, tc := range []struct {
		name    string
		o       Options
		objects []object
		want    string // a part; "" for no refusal
	}{
		{"nothing is there", usualPlaces, nil, ""},
		{"what administrators, the system, the service and oneself made", usualPlaces, []object{{path: folder, owner: administrators},
			{path: folder + `\a`, owner: localSystem}, {path: folder + `\b`, owner: serviceSID(Name)}, {path: folder + `\c`, owner: me}}, ""},
		{"a folder that a user made before", usualPlaces, []object{{path: folder, owner: mallory, name: `PC\mallory`}},
			folder + ` belongs to PC\mallory, who may have put there what no administrator did, and can let in anybody; look through it, then run: takeown /F "` + folder + `" /A /R, then: icacls "` + folder + `" /reset /T, and install again`},
		{"a file that a user put into it", usualPlaces, []object{{path: folder, owner: administrators}, {path: folder + `\vault.key`, owner: mallory, name: `PC\mallory`}},
			folder + `\vault.key belongs to PC\mallory`},
		{"a link in place of the folder", usualPlaces, []object{{path: folder, link: true}}, folder + " is a link"},
		{"a link in the folder", usualPlaces, []object{{path: folder, owner: me}, {path: folder + `\contents`, link: true}}, folder + `\contents is a link`},
		{"the folder of the configuration, where data_dir lies elsewhere", with(func(o *Options) { o.DataDir = `D:\mail` }),
			[]object{{path: folder, owner: mallory, name: `PC\mallory`}}, folder + ` belongs to PC\mallory`},
		{"another service's files", usualPlaces, []object{{path: folder, owner: serviceSID("Spooler"), name: "x"}}, "belongs to x"},
		{"a program in Downloads", with(func(o *Options) { o.Program = `c:\users\me\Downloads\postern\postern.exe` }), nil,
			`the program, c:\users\me\Downloads\postern\postern.exe, lies in a user's folder (C:\Users)`},
		{"a configuration on the desktop", with(func(o *Options) { o.Config = `C:\Users\me\Desktop\postern.toml` }), nil, "the configuration, "},
		{"data_dir in a profile", with(func(o *Options) { o.DataDir = `C:\Users\me\data` }), nil, "data_dir, "},
		{"a folder whose name only begins like the profiles'", with(func(o *Options) { o.Program = `C:\Users2\postern.exe` }), nil, ""},
		{"data_dir that is a drive", with(func(o *Options) { o.DataDir = `C:\` }), nil, `data_dir is C:\, which is the system's`},
		{"data_dir that is ProgramData itself", with(func(o *Options) { o.DataDir = `c:\programdata` }), nil, "which is the system's"},
		{"data_dir with the program in it", with(func(o *Options) { o.DataDir = `C:\Program Files\Postern` }), nil, "has the program in it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k, set := testKeeper(tc.objects...)
			err := k.refuse(tc.o)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("refuse = %v; want %q", err, tc.want)
			}
			if len(*set) > 0 {
				t.Errorf("it changed %v", *set)
			}
		})
	}
	k, _ := testKeeper()
	k.list = func(string) ([]object, error) { return nil, errors.New("denied") }
	if err := k.refuse(usualPlaces); err == nil {
		t.Error("what cannot be looked at is taken")
	}
}

func TestGuard(t *testing.T) {
	const folder = `C:\ProgramData\Postern`
	sid := serviceSID(Name)
	objects := []object{{path: folder, owner: me}, {path: folder + `\postern.toml`, owner: me}, {path: folder + `\queue.db`, owner: sid}}
	k, set := testKeeper(objects...)
	var r Result
	if err := k.guard(&r, guarded{path: folder, rights: "FA"}); err != nil {
		t.Fatal(err)
	}
	want := []string{folder + " O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;" + sid + ")", folder + `\postern.toml O:BA`}
	if !reflect.DeepEqual(*set, want) {
		t.Errorf("set %q; want %q", *set, want)
	}
	if len(r.Warnings) > 0 || !reflect.DeepEqual(r.Done, []string{folder + " is open to the service, administrators and the system alone"}) {
		t.Errorf("it says %v, and warns %v", r.Done, r.Warnings)
	}

	k, set = testKeeper()
	if err := k.guard(&r, guarded{path: `C:\etc\postern.toml`, file: true, rights: "0x1200a9"}); err != nil {
		t.Fatal(err)
	}
	if want := []string{`C:\etc\postern.toml O:BAD:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;0x1200a9;;;` + sid + ")"}; !reflect.DeepEqual(*set, want) {
		t.Errorf("set %q; want %q", *set, want)
	}

	k, _ = testKeeper(object{path: folder, owner: administrators}, object{path: folder + `\queue.db`, owner: mallory, name: `PC\mallory`})
	if err := k.guard(&r, guarded{path: folder, rights: "FA"}); err == nil || !strings.Contains(err.Error(), `queue.db belongs to PC\mallory`) {
		t.Errorf("what came before the rights were set: %v", err)
	}

	for _, tc := range []struct{ name, owner, dacl, want string }{
		{"an owner that stays", mallory, "D:P(A;OICI;FA;;;SY)", folder + " still belongs to " + mallory + `, who can let in anybody; run: takeown /F "` + folder + `" /A`},
		{"rights that stay", administrators, "D:(A;OICI;FR;;;WD)", "can be read by others"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k, _ := testKeeper()
			k.read = func(string) (string, string, error) { return tc.owner, tc.dacl, nil }
			var r Result
			if err := k.guard(&r, guarded{path: folder, rights: "FA"}); err != nil {
				t.Fatal(err)
			}
			if len(r.Done) > 0 || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], tc.want) {
				t.Errorf("it says %v, and warns %v; want %q", r.Done, r.Warnings, tc.want)
			}
		})
	}
	k, _ = testKeeper()
	k.write = func(string, string) error { return errors.New("denied") }
	if err := k.guard(&r, guarded{path: folder, rights: "FA"}); err == nil {
		t.Error("a folder that cannot be guarded is none to put sign-ins into")
	}
}

func TestProgramThatTheServiceMayNotStart(t *testing.T) {
	for _, tc := range []struct {
		name, dacl string
		opens      bool
	}{
		{"what Program Files hands down", "O:BAD:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;0x1200a9;;;BU)", true},
		{"everyone by names", "D:(A;;FRFX;;;WD)", true},
		{"generic rights", "D:(A;;GRGX;;;AU)", true},
		{"generic rights as a number", "D:(A;;0xa0000000;;;SU)", true},
		{"the service itself", "D:P(A;;FA;;;BA)(A;;0x1200a9;;;" + serviceSID(Name) + ")", true},
		{"one person's and administrators", "D:P(A;;FA;;;BA)(A;;FA;;;SY)(A;;FA;;;" + me + ")", false},
		{"read alone", "D:(A;;FR;;;BU)", false},
		{"read alone as a number", "D:(A;;0x120089;;;BU)", false},
		{"for what is made in it alone", "D:(A;OICIIO;FA;;;BU)", false},
		{"a denial", "D:(D;;FA;;;BU)", false},
		{"nothing", "D:P", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k, _ := testKeeper()
			k.read = func(string) (string, string, error) { return administrators, tc.dacl, nil }
			var r Result
			k.program(&r, usualPlaces)
			want := []string(nil)
			if !tc.opens {
				want = []string{`the service may not start ` + usualPlaces.Program + `; run: icacls "` + usualPlaces.Program + `" /grant "NT SERVICE\Postern:RX"`}
			}
			if !reflect.DeepEqual(r.Warnings, want) {
				t.Errorf("it warns %q; want %q", r.Warnings, want)
			}
		})
	}
}
