package reports

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2026, 11, 23, 4, 55, 1, 0, time.UTC)

// sample is a run with every verdict, Japanese titles and nested figures.
func sample() *Result {
	end := t0.Add(9*time.Minute + 12*time.Second)
	at := func(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }
	mesh := Scenario{
		ID: "lb-stateless-mesh", Title: "ステートレスメッシュルーティング", Recipe: "lb-stateless-mesh.yml", DurationS: 143.2,
		Timings: map[string]float64{"deploy": 75.1, "probe": 31.4, "evidence": 22.9, "remove": 13.8},
		Notes: []string{
			"The DRBD volume of postgres is left out: the lab has no DRBD in this version. The claims volume/* are therefore skipped.",
			"Images are replaced by the agent, which speaks DNS on 53 and says who asked.",
		},
		Services: []Service{
			{Name: "pdns", Image: "powerdns/pdns-auth-49", RunAs: "hiveproof/agent:dns", Balance: "scalable", Volume: "stateless", Publish: "mesh", Tasks: 2},
			{Name: "pdns_db", Image: "postgres:16-alpine", RunAs: "hiveproof/agent:echo", Balance: "singleton", Volume: "service", Publish: "internal", Tasks: 1},
		},
		Claims: []Claim{
			{ID: "mesh/every-host-answers", Service: "pdns", Guide: "ステートレスメッシュルーティング", Verdict: Pass,
				Text:         "Each published port answers on every host, also where no task runs.",
				Reason:       "All 54 questions were answered: 3 hosts, 2 protocols, 3 clients, 3 questions each.",
				Measurements: map[string]any{"asked": 54, "answered": 54, "by_host": map[string]int{"hive0": 18, "hive1": 18, "hive2": 18}, "rtt_ms": map[string]float64{"p50": 4.21, "p95": 11.8731, "max": 28.4}},
				Samples: []Sample{
					{Time: at(301.218), Client: "segment 192.168.56.50", Target: "hive0 192.168.56.11:53/udp", Outcome: "answered", Seen: "10.0.0.2", Server: "pdns.1 on hive1", RTTms: 4.1},
					{Time: at(301.402), Client: "outside-a 198.51.100.7", Target: "hive2 192.168.56.13:53/tcp", Outcome: "answered", Seen: "10.0.0.4", Server: "pdns.2 on hive0", RTTms: 7.7},
				},
				Evidence: []Evidence{{Path: "evidence/lb-stateless-mesh/frames.pcapng", Title: "All frames of the scenario", Kind: "pcapng"}}},
			{ID: "mesh/source-hidden", Service: "pdns", Guide: "ステートレスメッシュルーティング", Verdict: Pass,
				Text: "The container sees the ingress address of the host that was asked, never the client's.", Reason: "54 answers, all from 10.0.0.2–10.0.0.4."},
			{ID: "mesh/balances", Service: "pdns", Guide: "ステートレスメッシュルーティング", Verdict: Invalid,
				Text:         "Over fresh connections every replica serves, within the expected spread.",
				Reason:       "Only 6 of the 40 answers that are needed came before the deadline; nothing can be said of the spread.",
				Measurements: map[string]any{"answers": 6, "needed": 40, "per_task": []map[string]any{{"task": "pdns.1", "node": "hive1", "answers": 4, "share": 2.0 / 3}, {"task": "pdns.2", "node": "hive0", "answers": 2, "share": 1.0 / 3}}}},
			{ID: "one-to-one/source-kept", Service: "pdns", Guide: "ステートレスグローバル", Control: true, Verdict: Fail,
				Text:         "The container sees the client's own address, over TCP and UDP.",
				Reason:       "The container saw 10.0.0.2 where the client was 198.51.100.7 (hive0, udp). 54 of 54 answers carry an ingress address: the mesh hides the source.",
				Measurements: map[string]any{"answers": 54, "kept": 0, "seen": []string{"10.0.0.2", "10.0.0.3", "10.0.0.4"}},
				Samples: []Sample{
					{Time: at(305.001), Client: "outside-a 198.51.100.7", Target: "hive0 192.168.56.11:53/udp", Outcome: "answered", Seen: "10.0.0.2", Server: "pdns.1 on hive1", RTTms: 5.2, Counter: true},
					{Time: at(305.340), Client: "outside-b 203.0.113.9", Target: "hive1 192.168.56.12:53/tcp", Outcome: "answered", Seen: "10.0.0.3", Server: "pdns.2 on hive0", RTTms: 9.9, Counter: true},
					{Time: at(305.512), Client: "segment 192.168.56.50", Target: "hive1 192.168.56.12:53/tcp", Outcome: "timeout"},
				},
				Evidence: []Evidence{
					{Path: "evidence/lb-stateless-mesh/frames.pcapng", Title: "All frames of the scenario", Kind: "pcapng"},
					{Path: "evidence/lb-stateless-mesh/ipvs-hive0.txt", Title: "IPVS table of hive0", Kind: "text"},
				}},
			{ID: "internal/not-exposed", Service: "pdns_db", Guide: "サービスの公開", Verdict: Pass,
				Text: "No host answers on an internal service's ports.", Reason: "18 of 18 refused; the same hosts answered on port 53 at the same time."},
			{ID: "volume/follows", Service: "pdns_db", Guide: "サービスボリューム", Verdict: Skip,
				Text: "After the singleton moves to another host, the same data is there.", Reason: "The provider lacks the capability drbd."},
		},
		Evidence: []Evidence{
			{Path: "evidence/lb-stateless-mesh/docker-hive1.log", Title: "Engine log of hive1", Kind: "text"},
			{Path: "evidence/lb-stateless-mesh/services.json", Title: "Service and task state", Kind: "json"},
			{Path: "evidence/lb-stateless-mesh/gone.txt", Title: "ip addr of hive2", Kind: "text"},
		},
	}
	global := Scenario{
		ID: "stateless-global", Title: "ステートレスグローバル", Recipe: "stateless-global.yml", DurationS: 61,
		Timings:  map[string]float64{"deploy": 49, "probe": 12},
		Services: []Service{{Name: "dnsdist", Image: "powerdns/dnsdist-19", RunAs: "hiveproof/agent:dns", Balance: "global", Volume: "stateless", Publish: "one-to-one", Tasks: 3}},
		Claims: []Claim{
			{ID: "one-to-one/every-host-has-one", Service: "dnsdist", Guide: "ステートレスグローバル", Verdict: Pass, Text: "One task on each host.", Reason: "3 tasks on 3 hosts."},
			{ID: "one-to-one/source-kept", Service: "dnsdist", Guide: "ステートレスグローバル", Verdict: Pass, Text: "The container sees the client's own address, over TCP and UDP.", Reason: "54 of 54."},
			{ID: "one-to-one/local-task-answers", Service: "dnsdist", Guide: "ステートレスグローバル", Verdict: Error, Text: "What is sent to a host is served by the task on that host.", Reason: "list tasks on hive2: ssh: connection lost after 31 s"},
			{ID: "one-to-one/fallback", Service: "dnsdist", Guide: "ステートレスグローバル", Verdict: NotRun, Text: "A client with several addresses is served when one host is lost.", Reason: "The lab broke before."},
		},
	}
	return &Result{
		Schema: Schema,
		Run: Run{ID: "20261123-045501-ab12", Started: t0, Finished: &end, Version: "0.1.0",
			Command: []string{"hiveproof", "run", "--scenario", "stateless", "--claim", "mesh|one-to-one"},
			Cleanup: []string{"overlay disk /var/lib/hiveproof/labs/ab12/hive2.qcow2: device or resource busy"}},
		Lab: Lab{Provider: "qemu", Accel: "tcg",
			Hosts: []Host{
				{Name: "hive0", Address: "192.168.56.11", Role: "manager", CPUs: 2, MemoryMiB: 1024},
				{Name: "hive1", Address: "192.168.56.12", Role: "manager", CPUs: 2, MemoryMiB: 1024},
				{Name: "hive2", Address: "192.168.56.13", Role: "manager", CPUs: 2, MemoryMiB: 1024},
			},
			Versions: map[string]string{"docker": "26.1.5", "kernel": "6.12.57+deb13-cloud-amd64", "qemu": "7.2.19", "image": "sha256:5d41402abc4b"},
			Timings:  map[string]float64{"image": 0.4, "boot": 151.3, "swarm": 26.8, "load": 43},
			Notes:    []string{"KVM opens and hangs a guest on this machine: emulated with TCG. Times are about ten times those of a lab host."}},
		Scenarios: []Scenario{mesh, global},
	}
}

// writeEvidence makes the files that sample's evidence names, but for gone.txt.
func writeEvidence(t testing.TB, dir string) {
	t.Helper()
	var log strings.Builder
	for i := 0; log.Len() < 80<<10; i++ {
		fmt.Fprintf(&log, "time=\"2026-11-23T04:58:%02dZ\" level=info msg=\"\x1b[32msbJoin\x1b[0m: gwep4 <script>alert(%d)</script>\"\n", i%60, i)
	}
	for name, text := range map[string]string{
		"frames.pcapng":    "\n\r\r\n",
		"services.json":    "{}",
		"docker-hive1.log": log.String(),
		"ipvs-hive0.txt": "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n" +
			"FWM  256 rr\n  -> 10.0.0.5:0                   Masq    1      0          3\n  -> 10.0.0.6:0                   Masq    1      0          3\n",
	} {
		path := filepath.Join(dir, "evidence/lb-stateless-mesh", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSampleReport renders the sample. To look at the pages, name a directory to
// make it in: HIVEPROOF_SAMPLE=/tmp/sample go test -run TestSampleReport ./reports/
func TestSampleReport(t *testing.T) {
	root := os.Getenv("HIVEPROOF_SAMPLE")
	if root == "" {
		root = t.TempDir()
	}
	r := sample()
	s, err := Create(root, NewRunID(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	writeEvidence(t, s.Dir())
	if err := s.Save(r); err != nil {
		t.Fatal(err)
	}
	if err := s.Render(r); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{ResultFile, JUnitFile, HTMLFile, MarkdownFile} {
		if st, err := os.Stat(filepath.Join(root, LatestLink, name)); err != nil || st.Size() == 0 {
			t.Errorf("latest/%s: %v", name, err)
		}
	}
}
