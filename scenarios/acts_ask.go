package scenarios

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/hiveproof/hiveproof/probes"
	"github.com/hiveproof/hiveproof/probes/whoami"
	"github.com/hiveproof/hiveproof/provision"
	"github.com/hiveproof/hiveproof/provision/agentimage"
	"github.com/hiveproof/hiveproof/provision/swarm"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
	"github.com/miekg/dns"
)

// names looks every internal service's name up from inside other services' containers.
func (s *scenarioRun) names(ctx context.Context) error {
	var problems *multierror.Error
	for _, svc := range s.planned.Recipe.Services {
		if len(svc.Ports) > 0 {
			continue
		}
		r := probes.Resolution{Service: svc.Name, Mode: string(svc.EndpointMode)}
		for _, t := range s.o.running(svc.Name) {
			if a, ok := t.Addresses[s.networkOf(svc)]; ok {
				r.Tasks = append(r.Tasks, a)
			}
		}
		if svc.EndpointMode == recipe.EndpointVIP {
			vips, err := s.Site.Swarm.VirtualIPs(ctx, svc.Name)
			if err != nil {
				problems = multierror.Append(problems, err)
				continue
			}
			r.VIPs = vips
		}
		for _, t := range s.callers(svc) {
			l := probes.Lookup{Service: t.Service, Task: t.ID, Node: t.Node, Name: svc.Name}
			out, err := s.Site.Swarm.Exec(ctx, t, agentimage.Binary, "resolve", svc.Name)
			if err != nil {
				problems = multierror.Append(problems, err)
				continue
			}
			if err := json.Unmarshal(out, &l); err != nil {
				problems = multierror.Append(problems, fmt.Errorf("%s: look %s up: %w", t.Node, svc.Name, err))
				continue
			}
			r.Lookups = append(r.Lookups, l)
		}
		s.o.Services[svc.Name].Resolution = r
	}
	return problems.ErrorOrNil()
}

// callers are running tasks from which a service may be called: one of another
// service on each host, or the service's own if it is alone.
func (s *scenarioRun) callers(svc *recipe.Service) []swarm.Task {
	var own, others []swarm.Task
	hosts := map[string]bool{}
	for _, t := range s.o.Tasks {
		switch {
		case !t.Running():
		case t.Service == svc.Name:
			own = append(own, t)
		case !hosts[t.Node]:
			hosts[t.Node] = true
			others = append(others, t)
		}
	}
	if len(others) == 0 {
		return own
	}
	return others
}

// networkOf is the network on which a service is called by its name.
func (s *scenarioRun) networkOf(svc *recipe.Service) string {
	if len(svc.Networks) > 0 {
		return svc.Networks[0].Name
	}
	return recipe.DefaultNetwork
}

// viewName is the name in the probes' zone whose answer depends on the client's address.
const viewName = "view." + zone

// zone is the probes' own, of which whoami's is a part.
const zone = "hiveproof.test."

// views asks each host for the same name from each client.
func (s *scenarioRun) views(ctx context.Context) error {
	svc := s.planned.Recipe.Service(s.planned.Scenario.Views)
	i := slices.IndexFunc(svc.Ports, func(p *recipe.Port) bool { return p.Protocol == "udp" })
	if i < 0 {
		return fmt.Errorf("service %s publishes no port for DNS over UDP", svc.Name)
	}
	for _, c := range s.clients {
		for _, h := range s.Site.Cluster.Hosts() {
			address := net.JoinHostPort(h.Addr().String(), fmt.Sprint(svc.Ports[i].Published))
			s.o.Views = append(s.o.Views, askView(ctx, c, h.Name(), address))
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

func askView(ctx context.Context, c provision.Client, host, address string) probes.View {
	v := probes.View{Client: asProbe(c), Host: host, Name: viewName, Want: viewOf(c), Outcome: probes.Failed}
	limited, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	conn, err := c.DialContext(limited, "udp", address)
	if err != nil {
		v.Err = err.Error()
		return v
	}
	defer conn.Close()
	stop := context.AfterFunc(limited, func() { conn.Close() })
	defer stop()
	q := new(dns.Msg)
	q.SetQuestion(viewName, dns.TypeTXT)
	d := &dns.Conn{Conn: conn}
	if err := d.WriteMsg(q); err != nil {
		v.Err = err.Error()
		return v
	}
	m, err := d.ReadMsg()
	switch {
	case limited.Err() != nil:
		v.Outcome, v.Err = probes.TimedOut, fmt.Sprintf("no answer within %s", exchangeTimeout)
	case err != nil:
		v.Err = err.Error()
	case m.Id != q.Id || m.Rcode != dns.RcodeSuccess:
		v.Outcome, v.Err = probes.WrongAnswer, "DNS "+dns.RcodeToString[m.Rcode]
	default:
		v.Outcome = probes.Answered
		for _, rr := range m.Answer {
			if txt, ok := rr.(*dns.TXT); ok {
				v.Answers = append(v.Answers, txt.Txt...)
			}
		}
	}
	return v
}

// visits sends visitors with sessions through the load balancer, and each once to
// the web service's database.
func (s *scenarioRun) visits(ctx context.Context) error {
	doors, err := s.doors()
	if err != nil {
		return err
	}
	s.o.Doors = doors
	if s.o.BalancerSources, s.o.GuideOnSources, err = s.balancerSources(ctx); err != nil {
		return err
	}
	if err := s.settleDoors(ctx, doors); err != nil {
		return err
	}
	results := make([][]probes.Visit, len(s.clients))
	s.eachClient(func(i int, c provision.Client) {
		for n := range sessionsPerClient {
			b := s.browser(c, fmt.Sprintf("%s-%d", c.Name(), n+1))
			for visit := range max(visitsPerSession, 2*len(doors)) {
				results[i] = append(results[i], b.Visit(ctx, doors[visit%len(doors)], "/", exchangeTimeout))
			}
		}
	})
	for _, r := range results {
		s.o.Visits = append(s.o.Visits, r...)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return s.askDatabase(ctx, doors)
}

const (
	// sessionsPerClient and visitsPerSession are enough for each session to meet a
	// second replica unless it is kept from it.
	sessionsPerClient = 2
	visitsPerSession  = 8
)

func (s *scenarioRun) browser(c provision.Client, session string) *probes.Browser {
	var roots *x509.CertPool
	if s.pki != nil {
		roots = s.pki.roots
	}
	return probes.NewBrowser(asProbe(c), c, session, s.planned.Scenario.Front.site(), roots)
}

// eachClient does something for all clients at once.
func (s *scenarioRun) eachClient(do func(i int, c provision.Client)) {
	done := make(chan struct{})
	for i, c := range s.clients {
		go func() {
			do(i, c)
			done <- struct{}{}
		}()
	}
	for range s.clients {
		<-done
	}
}

// settleDoors waits until each door has let somebody in once.
func (s *scenarioRun) settleDoors(ctx context.Context, doors []probes.Door) error {
	for _, d := range doors {
		err := swarm.Until(ctx, settleTimeout, d.Name+": wait for the load balancer", func(ctx context.Context) error {
			v := s.browser(s.clients[0], "settle").Visit(ctx, d, "/", 3*time.Second)
			if v.Outcome != probes.Answered {
				return fmt.Errorf("%s: %s", v.Outcome, v.Err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// askDatabase has the web service write to its database, which the definitions
// give it, and read back.
func (s *scenarioRun) askDatabase(ctx context.Context, doors []probes.Door) error {
	svc := s.planned.Recipe.Service(s.planned.Scenario.Front.Service)
	if _, has := svc.Environment.Get("DB_TYPE"); !has {
		return nil
	}
	rows := 0
	for i := range 2 * len(s.o.running(svc.Name)) {
		// A database that runs is not yet one that answers.
		err := swarm.Until(ctx, settleTimeout, svc.Name+": wait for its database", func(ctx context.Context) error {
			v := s.browser(s.clients[i%len(s.clients)], "database").Visit(ctx, doors[i%len(doors)], whoami.DatabasePath, 2*exchangeTimeout)
			s.o.Database = append(s.o.Database, v)
			switch {
			case v.Answer == nil || v.Answer.DB == nil:
				return fmt.Errorf("%s through %s: %s %s", v.Client.Name, v.Door.Name, v.Outcome, v.Err)
			case v.Answer.DB.Err != "":
				return errors.New(v.Answer.DB.Err)
			}
			rows = max(rows, v.Answer.DB.Rows)
			return nil
		})
		if err != nil {
			return err
		}
	}
	s.out.Notes = append(s.out.Notes, fmt.Sprintf("%s wrote to its database and read back %d rows, of all its tasks", svc.Name, rows))
	return nil
}

// balancerSources are the addresses from which a container behind the load
// balancer may be reached, and what the guide says of them.
func (s *scenarioRun) balancerSources(ctx context.Context) ([]probes.Labelled, string, error) {
	front := s.planned.Scenario.Front
	svc := s.planned.Recipe.Service(front.Service)
	var all []probes.Labelled
	switch {
	case front.Kind == External && len(svc.Ports) > 0 && svc.Ports[0].Mode == recipe.Ingress:
		for host, a := range s.o.Ingress {
			all = append(all, probes.Labelled{Addr: a, What: "ingress address of " + host})
		}
		return all, "the guide says it is the load balancer's address; the mesh makes it the ingress address of the host that the balancer asked", nil
	case front.Kind == External:
		edge, err := s.edge()
		if err != nil {
			return nil, "", err
		}
		return []probes.Labelled{{Addr: edge.Addr(), What: "address of the external load balancer"}},
			"the guide says it is the client's address; it is the balancer's, and the client is found in X-Forwarded-For", nil
	case len(svc.Ports) == 0:
		for _, t := range s.o.running(front.Proxy) {
			if a, ok := t.Addresses[s.networkOf(svc)]; ok {
				all = append(all, probes.Labelled{Addr: a, What: "address of " + front.Proxy + " on " + t.Node})
			}
		}
		return all, "it is the balancer's container on the overlay network; the client is found in X-Forwarded-For", nil
	}
	bridges, err := s.Site.Swarm.BridgeAddresses(ctx)
	if err != nil {
		return nil, "", err
	}
	proxies := map[string]bool{}
	for _, t := range s.o.running(front.Proxy) {
		proxies[t.Container] = true
	}
	for _, h := range s.Site.Cluster.Hosts() {
		all = append(all, probes.Labelled{Addr: h.Addr(), What: "address of " + h.Name()})
	}
	for _, b := range bridges {
		switch {
		case b.Container == "":
			all = append(all, probes.Labelled{Addr: b.Addr, What: "a host's docker_gwbridge"})
		case proxies[b.Container]:
			all = append(all, probes.Labelled{Addr: b.Addr, What: front.Proxy + " on docker_gwbridge"})
		}
	}
	return all, "the guide says it is the client's address; it is the balancer's host, or its container where both are on one host, and the client is found in X-Forwarded-For", nil
}

// reload changes the built-in load balancer's configuration and certificate on the
// hosts' volumes and has each task read them again.
func (s *scenarioRun) reload(ctx context.Context) error {
	front := s.planned.Scenario.Front
	doors, err := s.doors()
	if err != nil {
		return err
	}
	if err := s.settleDoors(ctx, doors); err != nil {
		return err
	}
	r := probes.Reload{Service: front.Proxy, TasksBefore: s.o.taskIDs(front.Proxy), Marker: "reloaded-" + time.Now().UTC().Format("150405")}
	through := func(session string) (all []probes.Visit) {
		for i, d := range doors {
			all = append(all, s.browser(s.clients[i%len(s.clients)], session).Visit(ctx, d, "/", exchangeTimeout))
		}
		return all
	}
	r.Before = through("before")
	hosts := s.Site.Cluster.Hosts()
	if front.breaks == "reload" {
		hosts = nil // made, and not put onto any
	}
	if err := s.writeBuiltIn(ctx, hosts, r.Marker); err != nil {
		return err
	}
	r.Certificate = s.serial
	for _, t := range s.o.running(front.Proxy) {
		if _, err := s.Site.Swarm.Exec(ctx, t, "nginx", "-s", "reload"); err != nil {
			return err
		}
	}
	r.Changed = time.Now()
	// A worker that still has a connection goes on with what it knew: the new ones
	// take over a moment later.
	_ = swarm.Until(ctx, 15*time.Second, "wait for the new configuration", func(ctx context.Context) error {
		r.After = through("after")
		for _, v := range r.After {
			if !slices.Contains(v.Header[probes.ConfigHeader], r.Marker) {
				return fmt.Errorf("%s still serves the old one", v.Door.Name)
			}
		}
		return nil
	})
	tasks, err := s.Site.Swarm.Tasks(ctx, front.Proxy)
	if err != nil {
		return err
	}
	for _, t := range tasks {
		if t.Running() {
			r.TasksAfter = append(r.TasksAfter, t.ID)
		}
	}
	s.o.Reload = r
	return ctx.Err()
}

// viewOf names the network that a client is in by the first 24 bits of its
// address: the zone has one view for each.
func viewOf(c provision.Client) string {
	prefix, err := c.Addr().Prefix(24)
	if err != nil {
		return c.Network()
	}
	return prefix.String()
}
