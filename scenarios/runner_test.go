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

// What cannot be judged takes only those claims with it that hang on it.
func TestJudgement(t *testing.T) {
	p, err := NewPlan(Selection{Scenario: "^stateless-mesh$"}, site)
	if err != nil {
		t.Fatal(err)
	}
	planned := p.Scenarios[0]
	published := ""
	for i, in := range planned.Claims {
		if in.Claim.ID == "mesh/balances" {
			planned.Claims[i].Skip = "nobody asked"
			published = in.Service
		}
	}
	if published == "" {
		t.Fatal("the scenario does not claim mesh/balances")
	}
	for _, test := range []struct {
		name   string
		broken map[string]error
		failed map[act]error
		reason func(Instance) (reports.Verdict, string) // empty: it is judged
	}{
		{"nothing went wrong", nil, nil, func(Instance) (reports.Verdict, string) { return "", "" }},
		{"a service does not converge", map[string]error{published: errors.New("1 of 2 tasks run")}, nil, func(in Instance) (reports.Verdict, string) {
			if in.Service == published {
				return reports.Error, "1 of 2 tasks run"
			}
			return "", ""
		}},
		{"a fault cannot be injected", nil, map[act]error{actTaskLoss: errors.New("no such container")}, func(in Instance) (reports.Verdict, string) {
			if in.Claim.ID == "mesh/survives-task-loss" {
				return reports.Error, "task-loss: no such container"
			}
			return "", ""
		}},
		{"of two faults one cannot be injected", nil, map[act]error{actLeaderLoss: errors.New("hive0 is stuck")}, func(in Instance) (reports.Verdict, string) {
			if in.Claim.ID == "mesh/survives-host-loss" {
				return reports.Error, "leader-loss: hive0 is stuck"
			}
			return "", ""
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &scenarioRun{planned: planned, broken: test.broken, failed: test.failed, o: &Observations{Services: map[string]*ServiceObservations{}}}
			for _, svc := range planned.Recipe.Services {
				s.o.Services[svc.Name] = new(ServiceObservations)
			}
			for _, in := range planned.Claims {
				got := s.judgement(in)
				want, reason := test.reason(in)
				if in.Skip != "" {
					want, reason = reports.Skip, "nobody asked"
				}
				switch {
				case want == "" && (got.Verdict == reports.Error || got.Verdict == reports.Pass):
					// Nothing was observed: its checker neither knows nor may believe that it holds.
					t.Errorf("%s [%s]: %s, %q", in.Claim.ID, in.Service, got.Verdict, got.Reason)
				case want != "" && (got.Verdict != want || got.Reason != reason):
					t.Errorf("%s [%s]: %s, %q, want %s, %q", in.Claim.ID, in.Service, got.Verdict, got.Reason, want, reason)
				}
			}
		})
	}
}

// Nothing is asked of a site that lacks a host because of an earlier fault.
func TestActWithoutAHost(t *testing.T) {
	s := &scenarioRun{off: "hive1"}
	for _, a := range actOrder {
		if err := s.act(t.Context(), a); err == nil || !strings.Contains(err.Error(), "hive1 is still without power") {
			t.Errorf("%s: %v", a, err)
		}
	}
}
