package scenarios

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/hiveproof/hiveproof/probes"
	"github.com/hiveproof/hiveproof/provision"
	"github.com/hiveproof/hiveproof/provision/swarm"
	"github.com/hiveproof/hiveproof/reports"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

const (
	// pace is 20 questions a second and client: an outage is known to 50 ms.
	pace = 50 * time.Millisecond
	// paceTimeout bounds the questions that wait for a slow server: 20 a client.
	paceTimeout = time.Second
	// calm is how long is observed before a fault and after the service is whole.
	calm = 3 * time.Second
	// noticeTimeout and replaceTimeout bound the swarm's reaction. A leader's task is
	// replaced after 42 to 58 s (FACTS.md); emulation may double that.
	noticeTimeout  = 90 * time.Second
	replaceTimeout = 3 * time.Minute
	rejoinTimeout  = 5 * time.Minute
	// fallbackTimeout is what a client waits for one address before it tries the next,
	// as resolvers do (resolv.conf(5) has 5 s; the figure is only the price of a try).
	fallbackTimeout = 2 * time.Second
	fallbackTries   = 3
)

// scale adds a replica to every service in the mesh that has several and takes it away again.
func (s *scenarioRun) scale(ctx context.Context) error {
	var problems *multierror.Error
	for _, svc := range s.planned.Recipe.Services {
		if place := placeOf(s.planned.Scenario, svc, len(s.o.Hosts)); !(isMesh.holds(place) && isScalable.holds(place)) {
			continue
		}
		problems = multierror.Append(problems, s.scaleService(ctx, svc))
	}
	return problems.ErrorOrNil()
}

func (s *scenarioRun) scaleService(ctx context.Context, svc *recipe.Service) error {
	so := s.o.Services[svc.Name]
	phase := func(replicas int) (p probes.ScalePhase, err error) {
		p.Replicas = replicas
		if replicas != svc.Replicas || len(so.Scaling.Before.Tasks) > 0 {
			if err := s.Site.Swarm.Scale(ctx, svc.Name, replicas); err != nil {
				return p, err
			}
			if err := s.Site.Swarm.WaitConverged(ctx, []string{svc.Name}, convergeTimeout, nil); err != nil {
				return p, err
			}
		}
		if p.Tasks, err = s.settleTasks(ctx, svc, so.Endpoints, replicas); err != nil {
			return p, err
		}
		p.Exchanges = probes.Collect(ctx, s.asks(so.Endpoints, scaleSamples), probes.Options{Timeout: exchangeTimeout})
		s.o.all = append(s.o.all, p.Exchanges...)
		return p, ctx.Err()
	}
	var err error
	if so.Scaling.Before, err = phase(svc.Replicas); err == nil {
		so.Scaling.Grown, err = phase(svc.Replicas + 1)
	}
	if err == nil {
		so.Scaling.Shrunk, err = phase(svc.Replicas)
	}
	return err
}

// scaleSamples is how often each client asks each port of each host in a phase:
// one replica more than there are hosts is met by each client then.
const scaleSamples = 4

// settleTasks waits until exactly so many tasks run and what they get is what they
// answer: the mesh learns of them a moment later. It returns their IDs.
func (s *scenarioRun) settleTasks(ctx context.Context, svc *recipe.Service, endpoints []probes.Endpoint, replicas int) ([]string, error) {
	var ids []string
	err := swarm.Until(ctx, settleTimeout, "wait for the mesh to know "+svc.Name+"'s tasks", func(ctx context.Context) error {
		tasks, err := s.Site.Swarm.Tasks(ctx, svc.Name)
		if err != nil {
			return err
		}
		ids = ids[:0]
		for _, t := range tasks {
			if t.Running() {
				ids = append(ids, t.ID)
			} else if t.State == "running" || t.State == "starting" {
				return fmt.Errorf("task %s on %s still is %s", t.ID, t.Node, t.State)
			}
		}
		if len(ids) != replicas {
			return fmt.Errorf("%d of %d tasks run", len(ids), replicas)
		}
		seen := map[string]bool{}
		for _, x := range probes.Collect(ctx, s.asksOf(s.clients[:1], endpoints, replicas), probes.Options{Timeout: settleAnswer}) {
			if x.Outcome != probes.Answered || x.Answer == nil {
				return fmt.Errorf("%s: %s", x.Endpoint.Host, x.Outcome)
			}
			if !slices.Contains(ids, x.Answer.Task) {
				return fmt.Errorf("%s still asks task %s", x.Endpoint.Host, x.Answer.Task)
			}
			seen[x.Answer.Task] = true
		}
		if len(seen) < replicas {
			return fmt.Errorf("%d of %d tasks answer", len(seen), replicas)
		}
		return nil
	})
	if err != nil && ctx.Err() == nil && len(ids) == replicas {
		err = nil // they run: what clients see of them is for the claim to judge
	}
	return slices.Clone(ids), err
}

// asks has every client ask every endpoint a number of times, port after port.
func (s *scenarioRun) asks(endpoints []probes.Endpoint, times int) []probes.Ask {
	return s.asksOf(s.clients, endpoints, times)
}

// asksOf lists questions port after port, not in turn: the mesh has one rotation
// for all ports of a service on a host, so asking two ports alternately would give
// each port always the same replica.
func (s *scenarioRun) asksOf(clients []provision.Client, endpoints []probes.Endpoint, times int) []probes.Ask {
	var asks []probes.Ask
	for _, port := range byPort(endpoints) {
		for range times {
			for _, e := range port {
				for _, c := range clients {
					asks = append(asks, ask(c, e))
				}
			}
		}
	}
	return asks
}

// lossOf observes what clients see of the scalable services in the mesh while a
// fault is injected; survivors are the hosts that are to go on answering.
func (s *scenarioRun) lossOf(ctx context.Context, survivors []string, fault func(context.Context, *recipe.Service) (probes.Fault, error)) error {
	for _, svc := range s.planned.Recipe.Services {
		if place := placeOf(s.planned.Scenario, svc, len(s.o.Hosts)); !(isMesh.holds(place) && isScalable.holds(place)) {
			continue
		}
		so := s.o.Services[svc.Name]
		loss := probes.Loss{Interval: pace, Clients: s.o.Clients}
		// One port stands for all: they share a rotation and a fate.
		for _, e := range byPort(so.Endpoints)[0] {
			if slices.Contains(survivors, e.Host) {
				// Whether it answers, not who: the question that costs the server least.
				e.Plain = e.App == "dns"
				loss.Endpoints = append(loss.Endpoints, e)
			}
		}
		watched, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { loss.Exchanges = probes.Pace(watched, s.asks(loss.Endpoints, 1), pace, paceTimeout) })
		err := wait(ctx, calm)
		if err == nil {
			loss.Fault, err = fault(ctx, svc)
		}
		if err == nil {
			err = wait(ctx, calm)
		}
		loss.Fault.Ended = time.Now()
		stop()
		wg.Wait()
		s.o.all = append(s.o.all, loss.Exchanges...)
		so.Losses = append(so.Losses, loss)
		if err != nil {
			return err
		}
	}
	return nil
}

// wait lets a measured time pass.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// unhealthy says what is wrong with the swarm before a fault; empty if nothing is.
func (s *scenarioRun) unhealthy(ctx context.Context) string {
	if err := s.Site.Swarm.Healthy(ctx); err != nil {
		return err.Error()
	}
	return ""
}

// taskLoss kills one container of each scalable service in the mesh.
func (s *scenarioRun) taskLoss(ctx context.Context) error {
	return s.lossOf(ctx, s.o.Hosts, func(ctx context.Context, svc *recipe.Service) (probes.Fault, error) {
		f := probes.Fault{Kind: probes.TaskLoss, Unhealthy: s.unhealthy(ctx)}
		tasks, err := s.Site.Swarm.Tasks(ctx, svc.Name)
		if err != nil {
			return f, err
		}
		i := slices.IndexFunc(tasks, swarm.Task.Running)
		if i < 0 {
			return f, fmt.Errorf("no task of %s runs", svc.Name)
		}
		victim := tasks[i]
		leader, err := s.Site.Swarm.Leader(ctx)
		if err != nil {
			return f, err
		}
		f.Host, f.Task, f.Led, f.TaskLost = victim.Node, victim.ID, victim.Node == leader, true
		f.Injected = time.Now()
		if err := s.Site.Swarm.Kill(ctx, victim); err != nil {
			return f, err
		}
		f.Effective = time.Now() // the engine has seen the process end
		if err := s.onFault(ctx); err != nil {
			return f, err
		}
		return f, s.replaced(ctx, svc, &f, func(t swarm.Task) bool { return t.ID == victim.ID && t.State != "running" }, "")
	})
}

// replaced waits until the swarm has noticed a loss and the service runs all of its
// tasks again, on other hosts than the lost one.
func (s *scenarioRun) replaced(ctx context.Context, svc *recipe.Service, f *probes.Fault, noticed func(swarm.Task) bool, lost string) error {
	return swarm.Until(ctx, replaceTimeout, "wait for the tasks of "+svc.Name+" to be replaced", func(ctx context.Context) error {
		tasks, err := s.Site.Swarm.Tasks(ctx, svc.Name)
		if err != nil {
			return err
		}
		running := 0
		for _, t := range tasks {
			if f.Noticed.IsZero() && noticed != nil && noticed(t) {
				f.Noticed = time.Now()
			}
			if t.Running() && t.ID != f.Task && t.Node != lost {
				running++
			}
		}
		if f.Noticed.IsZero() {
			return errors.New("the swarm has not noticed it")
		}
		if running < svc.Replicas {
			return fmt.Errorf("%d of %d tasks run", running, svc.Replicas)
		}
		f.Replaced = time.Now()
		return nil
	})
}

// hostLoss cuts the power of a host: the leader's, or that of one which does not lead.
func (s *scenarioRun) hostLoss(ctx context.Context, leads bool) error {
	victim, led, err := s.victim(ctx, leads)
	if err != nil {
		return err
	}
	survivors := slices.DeleteFunc(slices.Clone(s.o.Hosts), func(h string) bool { return h == victim.Name() })
	power := &powerCut{s: s, host: victim, led: led}
	err = s.lossOf(ctx, survivors, func(ctx context.Context, svc *recipe.Service) (probes.Fault, error) {
		f, err := power.cut(ctx, svc)
		if err != nil {
			return f, err
		}
		err = swarm.Until(ctx, noticeTimeout, "wait for the swarm to take "+victim.Name()+" for dead", func(ctx context.Context) error {
			down, err := s.Site.Swarm.Down(ctx, victim.Name())
			if err == nil && !down {
				err = errors.New("it does not yet")
			}
			return err
		})
		if err != nil {
			return f, err
		}
		f.Noticed = time.Now()
		return f, s.replaced(ctx, svc, &f, nil, victim.Name())
	})
	return errors.Join(err, s.heal(ctx, victim))
}

// powerCut is one host's loss, however many services are watched.
type powerCut struct {
	s    *scenarioRun
	host provision.Host
	led  bool
}

// cut cuts the power, or says when it was cut.
func (p *powerCut) cut(ctx context.Context, svc *recipe.Service) (probes.Fault, error) {
	f := probes.Fault{Kind: probes.HostLoss, Host: p.host.Name(), Led: p.led, Unhealthy: p.s.unhealthy(ctx)}
	tasks, err := p.s.Site.Swarm.Tasks(ctx, svc.Name)
	if err != nil {
		return f, err
	}
	f.TaskLost = slices.ContainsFunc(tasks, func(t swarm.Task) bool { return t.Running() && t.Node == p.host.Name() })
	power, ok := p.host.(provision.PowerControl)
	if !ok {
		return f, fmt.Errorf("%s: its provider cannot cut its power", p.host.Name())
	}
	p.s.off = p.host.Name()
	f.Injected = time.Now()
	if err := power.PowerOff(ctx); err != nil {
		return f, err
	}
	f.Effective = time.Now()
	p.s.event(reports.Event{Kind: reports.KindLog, Host: p.host.Name(), Message: "its power is cut"})
	return f, p.s.onFault(ctx)
}

// onFault breaks more than the fault does, if that is what the scenario is for.
func (s *scenarioRun) onFault(ctx context.Context) error {
	if m := s.planned.mutation; m != nil && m.onFault != nil {
		return m.onFault(ctx, s)
	}
	return nil
}

// victim is a host to lose: the leader, or one that does not lead, runs no internal
// service and, if there is such a one, runs a task that is published.
func (s *scenarioRun) victim(ctx context.Context, leads bool) (provision.Host, bool, error) {
	leader, err := s.Site.Swarm.Leader(ctx)
	if err != nil {
		return nil, false, err
	}
	tasks, err := s.Site.Swarm.Tasks(ctx, s.d.names()...)
	if err != nil {
		return nil, false, err
	}
	var best provision.Host
	most := -1
	for _, h := range s.Site.Cluster.Hosts() {
		if (h.Name() == leader) != leads {
			continue
		}
		published, internals := 0, 0
		for _, t := range tasks {
			if !t.Running() || t.Node != h.Name() {
				continue
			}
			svc := s.planned.Recipe.Service(t.Service)
			switch {
			case svc == nil:
			case len(svc.Ports) > 0:
				published++
			case svc.Mode == recipe.ModeReplicated && svc.Replicas == 1:
				internals++
			}
		}
		if internals == 0 && published > most {
			best, most = h, published
		}
	}
	if best == nil {
		return nil, false, fmt.Errorf("no host can be lost: each that %s runs an internal service's only task, which would not survive it",
			map[bool]string{true: "leads", false: "does not lead"}[leads])
	}
	return best, best.Name() == leader, nil
}

// heal gives a host its power back and waits until the swarm has it again. If
// nothing comes after it, restoring the cluster heals it as well, in less time.
func (s *scenarioRun) heal(ctx context.Context, h provision.Host) error {
	if s.Site.Restore != nil && s.last {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rejoinTimeout)
	defer cancel()
	if err := h.(provision.PowerControl).PowerOn(ctx); err != nil {
		return fmt.Errorf("give %s its power back: %w", h.Name(), err)
	}
	s.off = ""
	if err := s.Site.Swarm.WaitHealthy(ctx, rejoinTimeout); err != nil {
		return fmt.Errorf("%s is back, and the swarm is not healthy: %w", h.Name(), err)
	}
	now := time.Now()
	for _, so := range s.o.Services {
		for i := range so.Losses {
			if f := &so.Losses[i].Fault; f.Host == h.Name() && f.Kind == probes.HostLoss {
				f.Healed = now
			}
		}
	}
	if err := s.Site.Swarm.WaitConverged(ctx, s.d.names(), convergeTimeout, nil); err != nil {
		return err
	}
	// Health after the fault: what comes next finds every port answering.
	return s.settle(ctx)
}

// fallback cuts the power of a host that does not lead, and has each client ask a
// service by the addresses of all hosts, the lost one first.
func (s *scenarioRun) fallback(ctx context.Context) error {
	victim, led, err := s.victim(ctx, false)
	if err != nil {
		return err
	}
	power := &powerCut{s: s, host: victim, led: led}
	var fault probes.Fault
	for _, svc := range s.planned.Recipe.Services {
		if !isOneToOne.holds(placeOf(s.planned.Scenario, svc, len(s.o.Hosts))) {
			continue
		}
		if fault.Injected.IsZero() {
			if fault, err = power.cut(ctx, svc); err != nil {
				return err
			}
		}
		so := s.o.Services[svc.Name]
		clients, endpoints := s.reach(so.Endpoints)
		f := probes.Fallback{Fault: fault}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, c := range clients {
			wg.Go(func() {
				for n := range fallbackTries {
					for _, port := range byPort(endpoints) {
						try := s.tryAll(ctx, c, lostFirst(port, victim.Name(), n))
						mu.Lock()
						f.Tries = append(f.Tries, try)
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		f.Fault.Ended = time.Now()
		so.Fallback = f
		for _, t := range f.Tries {
			s.o.all = append(s.o.all, t.Exchanges...)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return s.heal(ctx, victim)
}

// lostFirst is a port on all hosts, that on the lost one first and the others in
// an order that differs with n.
func lostFirst(port []probes.Endpoint, lost string, n int) []probes.Endpoint {
	var first, rest []probes.Endpoint
	for _, e := range port {
		if e.Host == lost {
			first = append(first, e)
		} else {
			rest = append(rest, e)
		}
	}
	if len(rest) > 0 {
		n %= len(rest)
		rest = append(slices.Clone(rest[n:]), rest[:n]...)
	}
	return append(first, rest...)
}

// tryAll asks one endpoint after another until one answers.
func (s *scenarioRun) tryAll(ctx context.Context, c provision.Client, endpoints []probes.Endpoint) probes.FallbackTry {
	try := probes.FallbackTry{Client: asProbe(c)}
	started := time.Now()
	for _, e := range endpoints {
		try.Addresses = append(try.Addresses, e.Host)
	}
	for _, e := range endpoints {
		x := probes.Exchange1(ctx, ask(c, e), fallbackTimeout)
		try.Exchanges = append(try.Exchanges, x)
		if x.Outcome == probes.Answered {
			break
		}
	}
	try.Took = time.Since(started)
	return try
}

// reach are those clients and endpoints that the site's perimeter lets together:
// if every port is one that it closes, the clients inside, else the open ports.
func (s *scenarioRun) reach(endpoints []probes.Endpoint) ([]provision.Client, []probes.Endpoint) {
	if !s.Site.Perimeter {
		return s.clients, endpoints
	}
	open := slices.DeleteFunc(slices.Clone(endpoints), func(e probes.Endpoint) bool { return e.Addr.Port() >= firstInternalPort })
	if len(open) > 0 || len(endpoints) == 0 {
		return s.clients, open
	}
	return slices.DeleteFunc(slices.Clone(s.clients), func(c provision.Client) bool { return c.Network() != "segment" }), endpoints
}
