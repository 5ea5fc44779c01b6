// Package session runs a plan from a request to a finished report, on a lab of
// its own or on one that a supervisor keeps.
package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/hiveproof/hiveproof/provision/lab"
	"github.com/hiveproof/hiveproof/provision/topology"
	"github.com/hiveproof/hiveproof/reports"
	"github.com/hiveproof/hiveproof/scenarios"
)

// Request is what the user asked to be run. It crosses the supervisor's socket as JSON.
type Request struct {
	Selection scenarios.Selection `json:"selection"`
	Output    string              `json:"output"`               // absolute path of the results directory
	Timeout   time.Duration       `json:"timeout,omitempty"`    // of the whole run; 0 is none
	NoRestore bool                `json:"no_restore,omitempty"` // reuse the cluster as the scenario before left it
	Command   []string            `json:"command"`
	Version   string              `json:"version"`
}

// TimeoutError is the cause of a run's end at its --timeout.
type TimeoutError struct{ After time.Duration }

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("the run's time limit of %s is over", e.After)
}

// Report is a finished run.
type Report struct {
	Result *reports.Result
	Dir    string
}

// Run makes a report of the plan on the lab that acquire gives, which is fresh if
// nothing was done with it yet; release takes it back and its error is entered as
// a clean-up problem. The report is written in
// any case: also when the lab does not come up, and when ctx ends. An error means
// that there is none, or not a whole one.
func Run(ctx context.Context, req Request, plan *scenarios.Plan, sink reports.Sink,
	acquire func(ctx context.Context, id string) (l *lab.Lab, fresh bool, err error), release func(*lab.Lab) error) (_ *Report, err error) {
	started := time.Now()
	if req.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, req.Timeout, &TimeoutError{After: req.Timeout})
		defer cancel()
	}
	id := reports.NewRunID(started)
	store, err := reports.Create(req.Output, id)
	if err != nil {
		return nil, err
	}
	result := &reports.Result{
		Run: reports.Run{ID: id, Started: started.UTC(), Version: req.Version, Command: req.Command},
		Lab: reports.Lab{Provider: lab.Provider},
	}
	if err := store.Save(result); err != nil {
		return nil, err
	}

	l, fresh, labErr := acquire(ctx, id)
	if labErr == nil {
		result.Lab = describe(l)
		site := scenarios.Site{Cluster: l.Cluster, Swarm: l.Swarm, Fresh: fresh, Perimeter: l.Topology.Perimeter}
		if !req.NoRestore && l.CanRestore() {
			site.Restore = l.Restore
		}
		runner := &scenarios.Runner{
			Site:  site,
			Store: store, Sink: sink, Result: result,
		}
		err = runner.Run(ctx, plan)
		if releaseErr := release(l); releaseErr != nil {
			result.Run.Cleanup = append(result.Run.Cleanup, releaseErr.Error())
		}
	} else {
		reason := "the lab did not come up"
		if ctx.Err() != nil {
			reason = fmt.Sprintf("the run ended before the lab was up (%v)", context.Cause(ctx))
		} else {
			result.Run.Error = labErr.Error()
		}
		listUnrun(result, plan, reason)
	}
	if ctx.Err() != nil {
		result.Run.Interrupted = true
	}
	finished := time.Now().UTC()
	result.Run.Finished = &finished
	if result.Lab.Timings == nil {
		result.Lab.Timings = map[string]float64{}
	}
	result.Lab.Timings["total"] = finished.Sub(started).Seconds()
	err = errors.Join(err, store.Save(result), store.Render(result))
	sink.Event(reports.Event{Kind: reports.KindResult, Result: result, Dir: store.Dir(), ElapsedS: finished.Sub(started).Seconds()})
	return &Report{Result: result, Dir: store.Dir()}, err
}

// listUnrun enters what was selected and never started.
func listUnrun(result *reports.Result, plan *scenarios.Plan, reason string) {
	for _, p := range plan.Scenarios {
		s := reports.Scenario{ID: p.Scenario.ID, Title: p.Scenario.Title, Recipe: p.Scenario.Recipe, Reason: reason}
		for _, c := range p.Claims {
			s.Claims = append(s.Claims, reports.Claim{
				ID: c.Claim.ID, Service: c.Service, Text: c.Claim.Text, Guide: c.Claim.Guide, Control: c.Control,
				Verdict: reports.NotRun, Reason: reason,
			})
		}
		result.Scenarios = append(result.Scenarios, s)
	}
}

func describe(l *lab.Lab) reports.Lab {
	out := reports.Lab{
		Provider: lab.Provider, Accel: string(l.Proof.Accel),
		Versions: maps.Clone(l.Versions), Timings: maps.Clone(l.Timings),
		Notes: []string{l.Proof.Reason},
	}
	for _, h := range l.Topology.Hosts {
		out.Hosts = append(out.Hosts, describeHost(h))
	}
	return out
}

func describeHost(h topology.Host) reports.Host {
	role := "worker"
	switch {
	case h.Manager:
		role = "manager"
	case h.Edge:
		role = "edge"
	}
	return reports.Host{Name: h.Name, Address: h.Addr.String(), Role: role, CPUs: h.CPUs, MemoryMiB: h.MemoryMiB}
}

// LabEvents passes a lab's steps on to a sink.
func LabEvents(sink reports.Sink) func(lab.Event) {
	return func(e lab.Event) {
		out := reports.Event{Phase: e.Phase, Host: e.Host, Message: e.Message, ElapsedS: e.Elapsed.Seconds()}
		switch {
		case e.Start:
			out.Kind = reports.KindPhaseStart
		case e.Done:
			out.Kind = reports.KindPhaseDone
			if e.Err != nil {
				out.Verdict, out.Message = reports.Error, e.Err.Error()
			}
		case e.Warning:
			out.Kind = reports.KindWarning
		case e.Host == "":
			out.Kind = reports.KindProgress
		default:
			out.Kind = reports.KindLog
		}
		sink.Event(out)
	}
}
