package recipe

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// everyKey really has every key, so that the tests that read it miss none.
func TestEveryKeyIsInTheSample(t *testing.T) {
	for _, table := range []any{serviceKeys, imageKeys, portKeys, volumeKeys, drbdKeys, networkKeys, placementKeys, healthcheckKeys, restartKeys, loggingKeys} {
		for _, key := range reflect.ValueOf(table).MapKeys() {
			if key.String() != "available_on" && !strings.Contains(everyKey, key.String()+":") {
				t.Errorf("the sample has no %s", key)
			}
		}
	}
	// The list of the dialect, as hive-builder has it.
	want := strings.Fields(`available_on backup_scripts cap_add cap_drop command cpu_limit dns endpoint_mode entrypoint
		environment healthcheck hosts ignore_error image initialize_roles labels logging mem_limit mode monitor_error
		networks placement ports replicas restart_config standalone stop_grace_period sysctls user volumes working_dir`)
	var got []string
	for key := range serviceKeys {
		got = append(got, key)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("service keys\n%v, want\n%v", got, want)
	}
}

func TestEveryKey(t *testing.T) {
	r, err := Parse("f", []byte(everyKey))
	if err != nil {
		t.Fatal(err)
	}
	s := r.Services[0]
	check := func(what string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %#v, want %#v", what, got, want)
		}
	}
	check("plugin", r.Plugin, Plugin)
	check("networks", []string{r.Networks[0].Name, r.Networks[1].Name}, []string{DefaultNetwork, "backend"})
	check("number of networks", len(r.Networks), 2)
	check("driver_opts", r.Networks[1].DriverOpts.Map(), map[string]string{"encrypted": "true", "mtu": "1400"})
	check("ipam", r.Networks[1].IPAM, map[string]any{"config": []any{map[string]any{"subnet": "10.1.0.0/24"}}})
	check("image.Ref", s.Image.Ref(), "mariadb:10.4")
	check("image roles", s.Image.Roles, []string{"python-aptk", "initdb"})
	check("image env", s.Image.Env.Map(), map[string]string{"LANG": "C"})
	check("image stop_signal, user", []string{s.Image.StopSignal, s.Image.User}, []string{"2", "999"})
	check("image standalone, privileged", []bool{s.Image.Standalone, s.Image.Privileged}, []bool{false, true})
	check("image entrypoint", s.Image.Entrypoint, []string{"/entry.sh", "-x", "a b"})
	check("image command", s.Image.Command, []string{"--port", "5000", ""})
	check("image expose", s.Image.Expose, []string{"80", "53/udp"})
	check("pull", []string{s.Image.PullOn[0], s.Image.PullFrom}, []string{"production", "registry.example/mariadb:10.4"})
	check("available_on", s.AvailableOn, []string{"production"})
	check("backup_scripts", s.BackupScripts[0]["cleanup_days_before"], int64(10))
	check("capabilities", [][]string{s.CapAdd, s.CapDrop}, [][]string{{"NET_ADMIN"}, {"ALL"}})
	check("cpu_limit", s.CPULimit, 0.5)
	check("mem_limit", s.MemLimit, int64(512<<20))
	check("dns", s.DNS, []string{"192.168.1.2"})
	check("endpoint_mode", s.EndpointMode, EndpointDNSRR)
	check("entrypoint", s.Entrypoint, []string{"sh", "-c", `echo "a b"`})
	check("healthcheck", *s.Healthcheck, Healthcheck{Test: []string{"CMD", "true"}, Interval: 10 * time.Second, Timeout: 3 * time.Second, StartPeriod: 90 * time.Second, Retries: 3})
	check("hosts", s.Hosts.Map(), map[string]string{"test.example.com": "192.168.1.2"})
	check("labels", s.Labels.Map(), map[string]string{"HIVE_VIP": "192.168.56.101", "HIVE_DNAT_PORTS": "80", "on_off": "true", "nested": `{"a":[1,null]}`})
	check("logging", []string{s.Logging.Driver, s.Logging.Options[1].Value}, []string{"journald", "3"})
	check("mode", s.Mode, ModeReplicated)
	check("replicas", s.Replicas, 3)
	check("networks", []string{s.Networks[0].Name, s.Networks[1].Name, s.Networks[1].Aliases[0]}, []string{"backend", DefaultNetwork, "db"})
	check("placement", s.Placement, Placement{Constraints: []string{"node.labels.proxy == true", "node.hostname!=hive2"}, Spread: []string{"node.labels.zone"}, MaxPerNode: 1})
	check("restart_config", *s.RestartConfig, RestartConfig{Condition: "on-failure", Delay: 5 * time.Second, MaxAttempts: 3, Window: 2 * time.Minute})
	check("stop_grace_period", s.StopGracePeriod, 90*time.Second)
	check("sysctls", s.Sysctls.Map(), map[string]string{"net.core.somaxconn": "1024"})
	check("user, working_dir", []string{s.User, s.WorkingDir}, []string{"1000", "/srv"})
	check("roles, patterns", [][]string{s.InitializeRoles, s.IgnoreError, s.MonitorError}, [][]string{{"python-aptk"}, {"Error handling /(favicon.ico)"}, {"Error"}})
	d := s.Volumes[0].DRBD
	check("drbd", *d, DRBD{Position: d.Position, node: d.node, FSType: "ext4", Size: "20G", Bytes: 20 << 30, Diskless: []string{"hive2.pdns"}, DeviceID: 7})
	check("readonly", s.Volumes[0].ReadOnly, true)
	check("nfs", s.Volumes[1].NFS.Bytes, int64(120<<30))
	device, _ := s.Volumes[2].DriverOpts.Get("device")
	check("driver", []string{s.Volumes[2].Driver, device}, []string{"local", ":/x"})
	check("types", []VolumeType{s.Volumes[1].Type, s.Volumes[3].Type, s.Volumes[4].Type}, []VolumeType{TypeVolume, TypeBind, TypeTmpfs})
	raw, ok := s.Raw("image")
	check("raw image", ok && raw.(map[string]any)["user"] == int64(999), true)
	if _, ok := s.Raw("nothing"); ok {
		t.Error("Raw of a key that is not there")
	}
}

func TestPlainKind(t *testing.T) {
	tests := map[kind][]string{
		kindNull:   {"", "~", "null", "Null"},
		kindBool:   {"yes", "No", "on", "OFF", "true", "FALSE"},
		kindInt:    {"0", "-1", "+12", "1_000", "0777", "0x1F", "0b11", "22:22", "1:30:00", "99999999999999999999"},
		kindFloat:  {"1.5", ".5", "1.", "-.inf", ".nan", "1.5e+3"},
		kindTime:   {"2024-01-02", "2024-01-02 03:04:05", "2024-01-02T03:04:05Z"},
		kindString: {"y", "n", "yEs", "nullx", "8080:80", "0:80", "089", "1e3", "10.0.0.1", "53/udp", "-", ".", "500M", "2024-1", "-x"},
	}
	for want, texts := range tests {
		for _, text := range texts {
			if got := plainKind(text); got != want {
				t.Errorf("%q is %v, want %v", text, got, want)
			}
		}
	}
}

func TestParseInt(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "-12": -12, "+7": 7, "1_000": 1000, "010": 8, "0x1f": 31, "0b101": 5, "22:22": 1342, "-1:30": -90} {
		if got, ok := parseInt(text); !ok || got != want {
			t.Errorf("%s is %d, %v, want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{"99999999999999999999", "9999999999999999999:59", "089"} {
		if got, ok := parseInt(text); ok {
			t.Errorf("%s is %d", text, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"500M": 500 << 20, "20g": 20 << 30, "1.5G": 3 << 29, "1024": 1024, "1024b": 1024, "64KB": 64 << 10, "2TiB": 2 << 40} {
		if got, _, ok := parseSize(text); !ok || got != want {
			t.Errorf("%s is %d, %v, want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "M", "0", "0M", "-1M", "1 M", "1X", "1.M", "99999999999999999M", "999999999999999P", "1bb"} {
		if got, _, ok := parseSize(text); ok {
			t.Errorf("%q is %d", text, got)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"replicas", "volumes", "ports", "mode", "user", "environment"}
	for word, want := range map[string]string{"replica": "replicas", "Mode": "mode", "volmues": "volumes", "port": "ports", "enviroment": "environment", "uesr": "user",
		"x": "", "completely": "", "": "", strings.Repeat("replicas", 100): ""} {
		if got := Nearest(word, known); got != want {
			t.Errorf("Nearest(%.20q) is %q, want %q", word, got, want)
		}
	}
}
