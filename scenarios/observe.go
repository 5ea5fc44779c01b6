package scenarios

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hiveproof/hiveproof/probes"
	"github.com/hiveproof/hiveproof/provision"
	"github.com/hiveproof/hiveproof/provision/agentimage"
	"github.com/hiveproof/hiveproof/provision/swarm"
	"github.com/hiveproof/hiveproof/reports"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

const (
	// samples is how often each client asks each published port of each host.
	// Three hosts and clients make 72 a protocol: enough to judge the spread over
	// a handful of replicas, and a few seconds under emulation.
	samples = 8
	// exposureSamples is the same for ports on which nothing should answer.
	exposureSamples = 2
	exchangeTimeout = 10 * time.Second
	// closedTimeout is how long is listened at a port that a perimeter closes.
	closedTimeout = 2 * time.Second
	settlePace    = 250 * time.Millisecond
	settleAnswer  = 3 * time.Second
)

// Observations are what was seen of one deployed scenario.
type Observations struct {
	Hosts    []string                        `json:"hosts"`
	Clients  []probes.Client                 `json:"clients"`
	Tasks    []swarm.Task                    `json:"tasks"`
	Ingress  map[string]netip.Addr           `json:"ingress"` // host -> address of its ingress sandbox
	Services map[string]*ServiceObservations `json:"services"`
	Leader   string                          `json:"leader"`
	// Perimeter: internal ports are closed to clients outside the segment.
	Perimeter bool `json:"perimeter,omitempty"`

	Views []probes.View `json:"views,omitempty"`
	// What visitors saw who came through the load balancer, and through which doors.
	Doors  []probes.Door  `json:"doors,omitempty"`
	Visits []probes.Visit `json:"-"`
	// Database are visits in which the web service used its database.
	Database []probes.Visit `json:"-"`
	// BalancerSources are the addresses that a container behind the load balancer may
	// see, GuideOnSources what is to be said of them.
	BalancerSources []probes.Labelled `json:"balancer_sources,omitempty"`
	GuideOnSources  string            `json:"guide_on_sources,omitempty"`
	Reload          probes.Reload     `json:"reload,omitzero"`

	all []probes.Exchange // every exchange of the probes, for the evidence
}

// ServiceObservations are those of one service.
type ServiceObservations struct {
	Endpoints []probes.Endpoint `json:"endpoints"`         // published ports, on every host
	Hidden    []probes.Endpoint `json:"hidden,omitempty"`  // ports of an internal service, on every host
	Published []probes.Exchange `json:"-"`                 // answers from Endpoints
	Exposure  []probes.Exchange `json:"-"`                 // what came back from Hidden
	Listens   []probes.Exchange `json:"listens,omitempty"` // asked from inside the container

	Resolution probes.Resolution `json:"resolution,omitzero"`
	Scaling    probes.Scaling    `json:"scaling,omitzero"`
	Losses     []probes.Loss     `json:"losses,omitempty"`
	Fallback   probes.Fallback   `json:"fallback,omitzero"`
}

// endpoints lists a service's ports on every host: the published ones, as the
// definitions promise them, and those that its image listens on without publishing them.
func (s *scenarioRun) endpoints(svc *recipe.Service) (published, hidden []probes.Endpoint) {
	for _, h := range s.Site.Cluster.Hosts() {
		for _, p := range svc.Ports {
			published = append(published, s.endpoint(svc, h, string(p.Protocol), p.Target, p.Published))
		}
		if len(svc.Ports) > 0 {
			continue
		}
		for _, l := range s.d.Listens[svc.Name] {
			hidden = append(hidden, s.endpoint(svc, h, l.Proto, uint16(l.Port), uint16(l.Port)))
		}
	}
	return published, hidden
}

func (s *scenarioRun) endpoint(svc *recipe.Service, h provision.Host, proto string, target, published uint16) probes.Endpoint {
	e := probes.Endpoint{
		Service: svc.Name, Host: h.Name(), Proto: proto, Addr: netip.AddrPortFrom(h.Addr(), published),
		App: s.d.appOf(svc.Name, target, proto), Plain: s.d.Plain[svc.Name],
	}
	if e.App == "" {
		e.App = proto // "tcp" or "udp": nothing is known of it
	}
	return e
}

// places are the clients that this scenario asks from.
func (s *scenarioRun) places() ([]provision.Client, error) {
	network, ok := s.Site.Cluster.(provision.ClientNetwork)
	if !ok || !provision.Has(s.Site.Cluster, provision.Clients) {
		return nil, fmt.Errorf("this provider lacks the capability %q", provision.Clients)
	}
	wanted := s.planned.Scenario.Clients
	clients := slices.DeleteFunc(network.Clients(), func(c provision.Client) bool {
		return len(wanted) > 0 && !slices.Contains(wanted, c.Name())
	})
	if len(clients) == 0 {
		return nil, fmt.Errorf("none of the topology's clients is called %s", strings.Join(wanted, " or "))
	}
	return clients, nil
}

func asProbe(c provision.Client) probes.Client {
	return probes.Client{Name: c.Name(), Addr: c.Addr(), Network: c.Network()}
}

// settle waits until every published port has answered each client once. A
// running task is not yet a reachable one: the other hosts learn of it a moment
// later. A port that never answers is no error here; the claims will say it.
func (s *scenarioRun) settle(ctx context.Context) error {
	var waiting []probes.Ask
	for _, svc := range s.planned.Recipe.Services {
		if s.broken[svc.Name] != nil {
			continue
		}
		published, _ := s.endpoints(svc)
		clients, published := s.reach(published)
		for _, c := range clients {
			for _, e := range published {
				waiting = append(waiting, ask(c, e))
			}
		}
	}
	deadline := time.Now().Add(settleTimeout)
	// A refusal comes at once: a round is not begun before its time.
	pace := time.NewTicker(settlePace)
	defer pace.Stop()
	total := len(waiting)
	for len(waiting) > 0 && time.Now().Before(deadline) {
		got := probes.Collect(ctx, waiting, probes.Options{Timeout: settleAnswer})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var silent []probes.Ask
		for _, x := range got {
			if x.Outcome != probes.Answered {
				i := slices.IndexFunc(waiting, func(a probes.Ask) bool { return a.Client == x.Client && a.Endpoint == x.Endpoint })
				silent = append(silent, waiting[i])
			}
		}
		waiting = silent
		s.event(reports.Event{Kind: reports.KindProgress, Phase: "settle", Done: total - len(waiting), Total: total, Message: "ports answer"})
		if len(waiting) > 0 {
			select {
			case <-pace.C:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// byPort groups endpoints by port and protocol, each group with all hosts.
func byPort(endpoints []probes.Endpoint) [][]probes.Endpoint {
	var groups [][]probes.Endpoint
	for _, e := range endpoints {
		i := slices.IndexFunc(groups, func(g []probes.Endpoint) bool {
			return g[0].Addr.Port() == e.Addr.Port() && g[0].Proto == e.Proto
		})
		if i < 0 {
			groups = append(groups, nil)
			i = len(groups) - 1
		}
		groups[i] = append(groups[i], e)
	}
	return groups
}

func ask(c provision.Client, e probes.Endpoint) probes.Ask {
	return probes.Ask{Client: asProbe(c), Endpoint: e, Dialer: c}
}

// look reads the swarm's own state and lists the ports, before anything is asked.
func (s *scenarioRun) look(ctx context.Context) error {
	o := &Observations{Services: map[string]*ServiceObservations{}, Perimeter: s.Site.Perimeter}
	for _, h := range s.Site.Cluster.Hosts() {
		o.Hosts = append(o.Hosts, h.Name())
	}
	for _, c := range s.clients {
		o.Clients = append(o.Clients, asProbe(c))
	}
	var err error
	if o.Tasks, err = s.Site.Swarm.Tasks(ctx, s.d.names()...); err != nil {
		return err
	}
	if o.Ingress, err = s.Site.Swarm.IngressAddresses(ctx); err != nil {
		return err
	}
	if o.Leader, err = s.Site.Swarm.Leader(ctx); err != nil {
		return err
	}
	for _, svc := range s.planned.Recipe.Services {
		so := &ServiceObservations{}
		so.Endpoints, so.Hidden = s.endpoints(svc)
		o.Services[svc.Name] = so
		for i := range s.out.Services {
			if s.out.Services[i].Name == svc.Name {
				s.out.Services[i].Tasks = len(o.running(svc.Name))
			}
		}
	}
	s.o = o
	return nil
}

// ask asks every port from every client, and then what should be silent, once it is
// known from inside that there is something to hear.
func (s *scenarioRun) ask(ctx context.Context) error {
	o := s.o
	var asks, silent, closed []probes.Ask
	for _, svc := range s.planned.Recipe.Services {
		so := o.Services[svc.Name]
		clients, reachable := s.reach(so.Endpoints)
		asks = append(asks, s.asksOf(clients, reachable, samples)...)
		silent = append(silent, s.asks(so.Hidden, exposureSamples)...)
		// What the perimeter stops is dropped without a word: the silence of a few is enough.
		for _, c := range s.clients {
			for _, e := range so.Endpoints {
				if s.Site.Perimeter && e.Addr.Port() >= firstInternalPort && c.Network() != "segment" {
					closed = append(closed, ask(c, e), ask(c, e))
				}
			}
		}
	}
	done := 0
	opts := probes.Options{Timeout: exchangeTimeout, Progress: func(probes.Exchange) {
		done++
		s.event(reports.Event{Kind: reports.KindProgress, Phase: string(actAsk), Done: done, Total: len(asks) + len(silent), Message: "exchanges"})
	}}
	got := probes.Collect(ctx, asks, opts)
	for _, svc := range s.planned.Recipe.Services {
		if so := o.Services[svc.Name]; len(so.Hidden) > 0 {
			so.Listens = s.listensInside(ctx, o.running(svc.Name), so.Hidden)
		}
	}
	got = append(got, probes.Collect(ctx, silent, opts)...)
	got = append(got, probes.Collect(ctx, closed, probes.Options{Timeout: closedTimeout})...)
	o.all = append(o.all, got...)
	for _, x := range got {
		so := o.Services[x.Endpoint.Service]
		if slices.Contains(so.Hidden, x.Endpoint) {
			so.Exposure = append(so.Exposure, x)
		} else {
			so.Published = append(so.Published, x)
		}
	}
	return context.Cause(ctx)
}

// listensInside asks an internal service's ports from within its own container:
// silence outside only means something where there is something to hear.
func (s *scenarioRun) listensInside(ctx context.Context, tasks []swarm.Task, hidden []probes.Endpoint) []probes.Exchange {
	var all []probes.Exchange
	asked := map[string]bool{}
	for _, t := range tasks {
		for _, e := range hidden {
			key := fmt.Sprint(t.ID, e.Addr.Port(), e.Proto)
			if asked[key] {
				continue
			}
			asked[key] = true
			var x probes.Exchange
			// A task that runs does not yet listen. What never answers the claim will say.
			_ = swarm.Until(ctx, settleTimeout, "wait for "+t.Service, func(ctx context.Context) error {
				if x = s.askInside(ctx, t, e); x.Outcome != probes.Answered {
					return errors.New(x.Err)
				}
				return nil
			})
			all = append(all, x)
		}
	}
	return all
}

// askInside asks one port of a task from within its container.
func (s *scenarioRun) askInside(ctx context.Context, t swarm.Task, e probes.Endpoint) probes.Exchange {
	local := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), e.Addr.Port())
	x := probes.Exchange{Endpoint: e, Outcome: probes.Failed, Start: time.Now()}
	out, err := s.Site.Swarm.Exec(ctx, t, agentimage.Binary, "probe", "--app", e.App, "--proto", e.Proto, fmt.Sprintf("--plain=%v", e.Plain), local.String())
	if jsonErr := json.Unmarshal(out, &x); jsonErr != nil && err == nil {
		err = jsonErr
	}
	if err != nil && x.Outcome == probes.Failed {
		x.Err = err.Error()
	}
	x.Client = probes.Client{Name: "inside " + t.Service, Addr: local.Addr(), Network: "container"}
	x.Endpoint.Service, x.Endpoint.Host, x.Endpoint.Addr = t.Service, t.Node, local
	return x
}

// running are a service's tasks that run.
func (o *Observations) running(service string) []swarm.Task {
	return slices.DeleteFunc(slices.Clone(o.Tasks), func(t swarm.Task) bool { return t.Service != service || !t.Running() })
}

// controls are answered questions of the same clients to the same hosts, put to
// the scenario's published services.
func (o *Observations) controls() []probes.Exchange {
	var all []probes.Exchange
	for _, so := range o.Services {
		for _, x := range so.Published {
			x.Endpoint.Control = true
			all = append(all, x)
		}
	}
	return all
}
