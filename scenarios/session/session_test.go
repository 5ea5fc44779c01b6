package session

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/hiveproof/hiveproof/provision/lab"
	"github.com/hiveproof/hiveproof/provision/qemu"
	"github.com/hiveproof/hiveproof/provision/topology"
	"github.com/hiveproof/hiveproof/reports"
	"github.com/hiveproof/hiveproof/scenarios"
)

var stateless = scenarios.Selection{Scenario: "^stateless-"}

// runWithout runs everything on a lab that acquire does not give.
func runWithout(t *testing.T, ctx context.Context, req Request, acquire func(context.Context, string) error) (*Report, []reports.Event) {
	t.Helper()
	plan, err := scenarios.NewPlan(req.Selection, scenarios.FactsOf(topology.Default()))
	if err != nil {
		t.Fatal(err)
	}
	req.Output = filepath.Join(t.TempDir(), "results")
	req.Command, req.Version = []string{"hiveproof", "run"}, "v1"
	var events []reports.Event
	report, err := Run(ctx, req, plan, reports.SinkFunc(func(e reports.Event) { events = append(events, e) }),
		func(ctx context.Context, id string) (*lab.Lab, bool, error) { return nil, false, acquire(ctx, id) },
		func(*lab.Lab) error {
			t.Error("a lab that never was is released")
			return nil
		})
	if err != nil || report == nil {
		t.Fatalf("Run gives %v, %v", report, err)
	}
	return report, events
}

// checkReport loads what was written and compares it with what was returned.
func checkReport(t *testing.T, report *Report, events []reports.Event, exit int) *reports.Result {
	t.Helper()
	written, err := reports.Load(report.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if written.Run.Finished == nil || written.Run.ID != report.Result.Run.ID || written.Run.Version != "v1" {
		t.Errorf("run as written: %+v", written.Run)
	}
	if got := written.ExitCode(); got != exit {
		t.Errorf("exit code %d, want %d", got, exit)
	}
	for _, name := range []string{reports.HTMLFile, reports.JUnitFile, reports.MarkdownFile} {
		if _, err := os.Stat(filepath.Join(report.Dir, name)); err != nil {
			t.Error(err)
		}
	}
	if len(events) == 0 || events[len(events)-1].Kind != reports.KindResult || events[len(events)-1].Dir != report.Dir {
		t.Errorf("the last event is not the result: %+v", events)
	}
	var ids []string
	n := 0
	for _, s := range written.Scenarios {
		ids = append(ids, s.ID)
		for _, c := range s.Claims {
			n++
			if c.Verdict != reports.NotRun || c.Reason == "" {
				t.Errorf("%s %s: %s (%s)", s.ID, c.ID, c.Verdict, c.Reason)
			}
		}
	}
	if want := []string{"stateless-mesh", "stateless-global"}; !reflect.DeepEqual(ids, want) || n != 16 || written.Totals.NotRun != n {
		t.Errorf("scenarios %v with %d claims, %d not run", ids, n, written.Totals.NotRun)
	}
	return written
}

func TestLabDoesNotComeUp(t *testing.T) {
	var id string
	report, events := runWithout(t, t.Context(), Request{Selection: stateless}, func(_ context.Context, run string) error {
		id = run
		return errors.New("hive1: no address after 60s")
	})
	r := checkReport(t, report, events, reports.ExitLab)
	if r.Run.Error != "hive1: no address after 60s" || r.Run.Interrupted || r.Run.ID != id {
		t.Errorf("run %+v, the lab's ID was %s", r.Run, id)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	report, events := runWithout(t, ctx, Request{Selection: stateless}, func(ctx context.Context, _ string) error {
		cancel(errors.New("interrupted"))
		return context.Cause(ctx)
	})
	r := checkReport(t, report, events, reports.ExitInterrupted)
	if !r.Run.Interrupted || r.Run.Error != "" {
		t.Errorf("run %+v: the user's Ctrl-C is no error of the lab", r.Run)
	}
}

func TestTimeout(t *testing.T) {
	var cause error
	report, events := runWithout(t, t.Context(), Request{Selection: stateless, Timeout: time.Nanosecond}, func(ctx context.Context, _ string) error {
		<-ctx.Done()
		cause = context.Cause(ctx)
		return cause
	})
	checkReport(t, report, events, reports.ExitInterrupted)
	var timeout *TimeoutError
	if !errors.As(cause, &timeout) || timeout.After != time.Nanosecond {
		t.Errorf("the lab was ended by %v", cause)
	}
}

// A directory that cannot be written is known before a lab is brought up.
func TestOutputUnusable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	report, err := Run(t.Context(), Request{Output: filepath.Join(file, "results")}, &scenarios.Plan{}, reports.SinkFunc(func(reports.Event) {}),
		func(context.Context, string) (*lab.Lab, bool, error) {
			t.Error("a lab was brought up")
			return nil, false, errors.New("no lab")
		}, nil)
	if err == nil || report != nil {
		t.Errorf("Run gives %v, %v", report, err)
	}
}

func TestDescribe(t *testing.T) {
	top := topology.Default()
	top.Hosts[2].Manager = false
	l := &lab.Lab{
		Topology: top, Proof: qemu.Proof{Accel: "tcg", Reason: "no /dev/kvm"},
		Timings: map[string]float64{"boot": 12}, Versions: map[string]string{"docker": "26.1"},
	}
	got := describe(l)
	want := reports.Lab{
		Provider: lab.Provider, Accel: "tcg", Notes: []string{"no /dev/kvm"},
		Timings: map[string]float64{"boot": 12}, Versions: map[string]string{"docker": "26.1"},
		Hosts: []reports.Host{
			{Name: "hive0", Address: "192.168.56.11", Role: "manager", CPUs: 1, MemoryMiB: 1024},
			{Name: "hive1", Address: "192.168.56.12", Role: "manager", CPUs: 1, MemoryMiB: 1024},
			{Name: "hive2", Address: "192.168.56.13", Role: "worker", CPUs: 1, MemoryMiB: 1024},
			{Name: "edge", Address: "192.168.56.20", Role: "edge", CPUs: 1, MemoryMiB: 512},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	// The report adds its own timings; a lab that serves many runs must not collect them.
	got.Timings["total"] = 1
	if len(l.Timings) != 1 {
		t.Error("the report's timings are the lab's")
	}
}

func TestLabEvents(t *testing.T) {
	for _, test := range []struct {
		in   lab.Event
		want reports.Event
	}{
		{lab.Event{Phase: "boot", Host: "hive0", Start: true}, reports.Event{Kind: reports.KindPhaseStart, Phase: "boot", Host: "hive0"}},
		{lab.Event{Phase: "boot", Done: true, Elapsed: 1500 * time.Millisecond}, reports.Event{Kind: reports.KindPhaseDone, Phase: "boot", ElapsedS: 1.5}},
		{lab.Event{Phase: "boot", Done: true, Err: errors.New("dead"), Message: "m"}, reports.Event{Kind: reports.KindPhaseDone, Phase: "boot", Verdict: reports.Error, Message: "dead"}},
		{lab.Event{Phase: "image", Message: "m"}, reports.Event{Kind: reports.KindProgress, Phase: "image", Message: "m"}},
		{lab.Event{Phase: "boot", Host: "hive0", Message: "m"}, reports.Event{Kind: reports.KindLog, Phase: "boot", Host: "hive0", Message: "m"}},
	} {
		var got reports.Event
		LabEvents(reports.SinkFunc(func(e reports.Event) { got = e }))(test.in)
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%+v becomes %+v, want %+v", test.in, got, test.want)
		}
	}
}
