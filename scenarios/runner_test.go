package scenarios

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/hiveproof/hiveproof/provision"
	"github.com/hiveproof/hiveproof/reports"
)

// fakeCluster has hosts that nothing can be done with.
type fakeCluster struct{}

func (fakeCluster) Hosts() []provision.Host {
	return []provision.Host{fakeHost(0), fakeHost(1), fakeHost(2)}
}
func (fakeCluster) Capabilities() []provision.Capability { return nil }
func (fakeCluster) Close() error                         { return nil }

// A site that cannot be made pristine is the lab's fault: every claim is an error
// with the reason, and each scenario tries anew.
func TestRestoreFails(t *testing.T) {
	plan, err := NewPlan(Selection{}, site)
	if err != nil {
		t.Fatal(err)
	}
	store, err := reports.Create(t.TempDir(), "run")
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	runner := &Runner{
		Site: Site{Cluster: fakeCluster{}, Restore: func(context.Context) error {
			tried++
			return errors.New("hive1 is down")
		}},
		Store: store, Sink: reports.SinkFunc(func(reports.Event) {}), Result: new(reports.Result),
	}
	if err := runner.Run(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if tried != len(plan.Scenarios) || tried < 2 {
		t.Errorf("%d restores for %d scenarios", tried, len(plan.Scenarios))
	}
	for _, s := range runner.Result.Scenarios {
		for _, c := range s.Claims {
			if c.Verdict != reports.Error || !strings.Contains(c.Reason, "hive1 is down") {
				t.Errorf("%s %s: %s, %q", s.ID, c.ID, c.Verdict, c.Reason)
			}
		}
		if _, deployed := s.Timings["deploy"]; deployed {
			t.Errorf("%s was deployed on a cluster in an unknown state", s.ID)
		}
	}
}
