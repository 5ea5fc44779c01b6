package scenarios

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/hiveproof/hiveproof/probes"
	"github.com/hiveproof/hiveproof/provision"
	"github.com/hiveproof/hiveproof/provision/swarm"
	"github.com/hiveproof/hiveproof/reports"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

// Site is where scenarios run: a cluster and the swarm on it.
type Site struct {
	Cluster provision.Cluster
	Swarm   *swarm.Swarm
	// Restore brings the site back to the state before any scenario and verifies
	// it. Without it a scenario's services are removed one by one instead.
	Restore func(context.Context) error
	// Fresh is true while the site is in that state.
	Fresh bool
	// Perimeter: the site's router closes internal ports to the outside.
	Perimeter bool
}

// Limits of one scenario's phases.
const (
	convergeTimeout = 5 * time.Minute
	settleTimeout   = 90 * time.Second
	removeTimeout   = 2 * time.Minute
	// evidenceTimeout also bounds what is still collected after an interruption.
	evidenceTimeout = 60 * time.Second
)

// Runner runs a plan and records it in a result as it goes.
type Runner struct {
	Site  Site
	Store *reports.Store
	Sink  reports.Sink
	// Result is filled in and saved after every claim. The caller owns it again when Run returns.
	Result *reports.Result
}

// Run runs the plan's scenarios one after another. Claims and failures of the
// lab are in the result; the error is of what could not be recorded or cleaned
// up. When ctx ends, what has been judged stands, the rest is not-run, and the
// site is cleaned all the same.
func (r *Runner) Run(ctx context.Context, plan *Plan) error {
	for _, p := range plan.Scenarios {
		r.Result.Scenarios = append(r.Result.Scenarios, r.listed(p))
	}
	if err := r.Store.Save(r.Result); err != nil {
		return err
	}
	var problems *multierror.Error
	for i, p := range plan.Scenarios {
		if ctx.Err() != nil {
			break
		}
		run := &scenarioRun{Runner: r, planned: p, out: &r.Result.Scenarios[i]}
		if err := run.do(ctx); err != nil {
			problems = multierror.Append(problems, err)
		}
	}
	return problems.ErrorOrNil()
}

// listed is a scenario before it has run: all of its claims are not-run.
func (r *Runner) listed(p Planned) reports.Scenario {
	s := reports.Scenario{ID: p.Scenario.ID, Title: p.Scenario.Title, Recipe: p.Scenario.Recipe, Verdict: reports.NotRun}
	for _, svc := range p.Recipe.Services {
		axes := recipe.Classify(svc, len(r.Site.Cluster.Hosts()))
		runs, _ := p.Scenario.runsAs(svc) // an image that nothing stands in for ends the scenario later, with the reason
		s.Services = append(s.Services, reports.Service{
			Name: svc.Name, Image: svc.Image.Ref(), RunAs: runs,
			Balance: string(axes.Balance), Volume: string(axes.Volume), Publish: string(axes.Publish),
		})
	}
	for _, c := range p.Claims {
		s.Claims = append(s.Claims, reports.Claim{
			ID: c.Claim.ID, Service: c.Service, Text: c.Claim.Text, Guide: c.Claim.Guide, Control: c.Control,
			Verdict: reports.NotRun, Reason: "the run ended before this claim was judged",
		})
	}
	return s
}

// scenarioRun is one scenario under way.
type scenarioRun struct {
	*Runner
	planned Planned
	out     *reports.Scenario
	started time.Time

	d       *deployment
	clients []provision.Client
	o       *Observations
	pki     *pki   // of the load balancer's certificates
	serial  string // of the built-in load balancer's certificate
	last    bool   // nothing comes after the act that is under way
	off     string // the host whose power is cut
	// broken are the services that did not converge, failed the acts that went wrong, and why.
	broken map[string]error
	failed map[act]error
}

func (s *scenarioRun) do(ctx context.Context) error {
	s.started = time.Now()
	s.out.Timings = map[string]float64{}
	s.broken, s.failed = map[string]error{}, map[act]error{}
	var problems *multierror.Error
	keep := func(err error) {
		if err != nil {
			problems = multierror.Append(problems, fmt.Errorf("scenario %s: %w", s.planned.Scenario.ID, err))
		}
	}
	s.event(reports.Event{Kind: reports.KindPhaseStart, Phase: "scenario"})
	acts := s.planned.acts()
	if len(acts) == 0 {
		keep(s.judge(ctx)) // every claim is a skip: nothing need be deployed
		keep(s.finish())
		return problems.ErrorOrNil()
	}
	if err := s.pristine(ctx); err != nil {
		s.abandon(ctx, err)
		keep(s.finish())
		return problems.ErrorOrNil()
	}
	stopCapture, err := s.capture()
	keep(err)
	if err := s.observe(ctx, acts); err != nil {
		s.abandon(ctx, err)
	} else {
		keep(s.judge(ctx))
	}
	if stopCapture != nil {
		keep(stopCapture())
	}
	// Evidence and removal go on after an interruption: the site is healed, and
	// what was seen until then is kept.
	if s.d != nil {
		detached := context.WithoutCancel(ctx)
		keep(s.phase("evidence", func() error {
			limited, cancel := context.WithTimeout(detached, evidenceTimeout)
			defer cancel()
			return s.evidence(limited)
		}))
		if s.Site.Restore == nil {
			err := s.phase("remove", func() error { return s.remove(detached) })
			if err != nil {
				s.Result.Run.Cleanup = append(s.Result.Run.Cleanup, fmt.Sprintf("scenario %s: %v", s.planned.Scenario.ID, err))
			}
		}
	}
	keep(s.finish())
	return problems.ErrorOrNil()
}

// observe deploys the scenario and does the acts. An act that goes wrong takes
// with it the claims that need it, and no others.
func (s *scenarioRun) observe(ctx context.Context, acts []act) (err error) {
	if s.d, err = plan(s.planned, s.Site.Cluster.Hosts()); err != nil {
		return err
	}
	if s.clients, err = s.places(); err != nil {
		return err
	}
	s.Site.Fresh = false
	if slices.Contains(acts, actLeaderLoss) {
		leader, err := s.Site.Swarm.Leader(ctx)
		if err != nil {
			return err
		}
		s.d.keepOff(s.planned.Deployed, leader)
	}
	s.out.Notes = append(s.out.Notes, s.d.Notes...)
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{{"pull", s.pull}, {"prepare", s.prepare}, {"deploy", s.deploy}, {"initialise", s.initialise}, {"recognise", s.recognise}, {"settle", s.settle}, {"look", s.look}} {
		if err := s.phase(step.name, func() error { return step.do(ctx) }); err != nil {
			return err
		}
	}
	if m := s.planned.mutation; m != nil {
		s.out.Notes = append(s.out.Notes, fmt.Sprintf("broken on purpose (%s): %s", m.ID, m.Text))
		if m.after != nil {
			if err := m.after(ctx, s); err != nil {
				return err
			}
		}
	}
	for i, a := range acts {
		s.last = i == len(acts)-1
		if err := s.phase(string(a), func() error { return s.act(ctx, a) }); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			s.failed[a] = err
		}
	}
	return nil
}

func (s *scenarioRun) act(ctx context.Context, a act) error {
	if s.off != "" {
		return fmt.Errorf("%s is still without power after an earlier fault", s.off)
	}
	switch a {
	case actAsk:
		return s.ask(ctx)
	case actNames:
		return s.names(ctx)
	case actViews:
		return s.views(ctx)
	case actVisit:
		return s.visits(ctx)
	case actReload:
		return s.reload(ctx)
	case actScale:
		return s.scale(ctx)
	case actTaskLoss:
		return s.taskLoss(ctx)
	case actHostLoss:
		return s.hostLoss(ctx, false)
	case actFallback:
		return s.fallback(ctx)
	case actLeaderLoss:
		return s.hostLoss(ctx, true)
	}
	return fmt.Errorf("there is no act %q", a)
}

// remove takes the services away and gives a host its power back that has none.
func (s *scenarioRun) remove(ctx context.Context) error {
	var problems *multierror.Error
	if s.off != "" {
		s.last = false
		for _, h := range s.Site.Cluster.Hosts() {
			if h.Name() == s.off {
				problems = multierror.Append(problems, s.heal(ctx, h))
			}
		}
	}
	problems = multierror.Append(problems, s.Site.Swarm.Remove(ctx, s.d.names(), removeTimeout))
	return problems.ErrorOrNil()
}

// pristine restores the site if something was done to it, so that no scenario
// sees what another one left.
func (s *scenarioRun) pristine(ctx context.Context) error {
	if s.Site.Restore == nil || s.Site.Fresh {
		return nil
	}
	if err := s.phase("restore", func() error { return s.Site.Restore(ctx) }); err != nil {
		return err
	}
	s.Site.Fresh = true
	return nil
}

// finish records the scenario's end.
func (s *scenarioRun) finish() error {
	s.out.DurationS = time.Since(s.started).Seconds()
	err := s.Store.Save(s.Result)
	s.event(reports.Event{Kind: reports.KindScenario, Verdict: s.out.Verdict, Message: s.out.Reason, ElapsedS: s.out.DurationS})
	return err
}

func (s *scenarioRun) event(e reports.Event) {
	e.Scenario = s.planned.Scenario.ID
	s.Sink.Event(e)
}

// phase times a step and reports it.
func (s *scenarioRun) phase(name string, step func() error) error {
	s.event(reports.Event{Kind: reports.KindPhaseStart, Phase: name})
	started := time.Now()
	err := step()
	took := time.Since(started).Seconds()
	s.out.Timings[name] = took
	e := reports.Event{Kind: reports.KindPhaseDone, Phase: name, ElapsedS: took}
	if err != nil {
		e.Verdict, e.Message = reports.Error, err.Error()
	}
	s.event(e)
	return err
}

// abandon gives every claim the reason why none could be judged.
func (s *scenarioRun) abandon(ctx context.Context, err error) {
	verdict, reason := reports.Error, err.Error()
	if ctx.Err() != nil {
		verdict, reason = reports.NotRun, fmt.Sprintf("interrupted before it could be judged (%v)", context.Cause(ctx))
	}
	s.out.Reason = reason
	for i := range s.out.Claims {
		s.out.Claims[i].Verdict, s.out.Claims[i].Reason = verdict, reason
	}
}

// deploy creates the services and waits until they run. Those that do not come up
// take their own claims with them; if none does, there is nothing to observe.
func (s *scenarioRun) deploy(ctx context.Context) error {
	if err := s.d.apply(ctx, s.Site.Swarm); err != nil {
		return err
	}
	err := s.Site.Swarm.WaitConverged(ctx, s.d.names(), convergeTimeout, func(running, desired int) {
		s.event(reports.Event{Kind: reports.KindProgress, Phase: "deploy", Done: running, Total: desired, Message: "tasks running"})
	})
	var missing *swarm.NotConvergedError
	if !errors.As(err, &missing) || ctx.Err() != nil {
		return err
	}
	for _, name := range missing.Names {
		s.broken[name] = err
	}
	s.event(reports.Event{Kind: reports.KindWarning, Phase: "deploy", Message: err.Error()})
	if len(s.broken) == len(s.d.Specs) {
		return err
	}
	return nil
}

// judge gives the observations to each claim's checker.
func (s *scenarioRun) judge(ctx context.Context) error {
	var problems *multierror.Error
	for i, inst := range s.planned.Claims {
		c := &s.out.Claims[i]
		j := s.judgement(inst)
		c.Verdict, c.Reason, c.Measurements, c.Samples = j.Verdict, j.Reason, j.Measurements, j.Samples
		if err := s.Store.Save(s.Result); err != nil {
			problems = multierror.Append(problems, err)
		}
		s.event(reports.Event{Kind: reports.KindClaim, Claim: c.ID, Service: c.Service, Verdict: c.Verdict, Message: c.Reason})
	}
	return problems.ErrorOrNil()
}

func (s *scenarioRun) judgement(inst Instance) probes.Judgement {
	if inst.Skip != "" {
		return probes.Judgement{Verdict: reports.Skip, Reason: inst.Skip}
	}
	if err := s.broken[inst.Service]; err != nil {
		return probes.Judgement{Verdict: reports.Error, Reason: err.Error()}
	}
	for _, a := range inst.Claim.acts {
		if err := s.failed[a]; err != nil {
			return probes.Judgement{Verdict: reports.Error, Reason: fmt.Sprintf("%s: %v", a, err)}
		}
	}
	return inst.Claim.judge(s.o, inst)
}
