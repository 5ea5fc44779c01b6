// Package swarm turns hosts into a Docker Swarm and runs services on it, always
// through the engines' API over SSH.
package swarm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
	"github.com/hashicorp/go-multierror"
	"github.com/hiveproof/hiveproof/provision"
)

// DefaultNetwork is the attachable overlay that every hive-builder service joins.
const DefaultNetwork = "hive_default_network"

const (
	socket      = "/run/docker.sock"
	clusterPort = "2377"
	// The pause between two tries that wait for something is between these.
	poll     = 300 * time.Millisecond
	maxPause = 2 * time.Second
)

// Node is a host and its engine.
type Node struct {
	provision.Host
	Manager bool
	Engine  *client.Client
	ID      string // swarm node ID
}

// Swarm is a formed swarm. It is safe for concurrent use.
type Swarm struct {
	nodes []*Node
	last  atomic.Pointer[Node] // the manager that answered last
}

// Options of Form.
type Options struct {
	// Managers says which hosts become managers, by name; the first one must be among them.
	Managers map[string]bool
	// EngineTimeout bounds the wait for one host's engine; default 5 minutes.
	EngineTimeout time.Duration
	// ReadyTimeout bounds the wait for all nodes to be ready; default 5 minutes.
	ReadyTimeout time.Duration
	// Progress is told what happened; it may be nil.
	Progress func(host, message string)
}

// Form initialises a swarm on the first manager, joins the others one after
// another (a manager that joins changes the quorum) and creates the default
// network. It returns when every node is ready.
func Form(ctx context.Context, hosts []provision.Host, opts Options) (_ *Swarm, err error) {
	if opts.EngineTimeout == 0 {
		opts.EngineTimeout = 5 * time.Minute
	}
	if opts.ReadyTimeout == 0 {
		opts.ReadyTimeout = 5 * time.Minute
	}
	if opts.Progress == nil {
		opts.Progress = func(string, string) {}
	}
	s, err := Attach(hosts, opts.Managers)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if len(s.nodes) == 0 || !s.nodes[0].Manager {
		return nil, errors.New("form the swarm: the first host must be a manager")
	}
	if err := s.waitEngines(ctx, opts); err != nil {
		return nil, err
	}
	if err := s.join(ctx, opts); err != nil {
		return nil, err
	}
	if err := s.waitReady(ctx, opts.ReadyTimeout); err != nil {
		return nil, err
	}
	if err := s.ensureNetwork(ctx, DefaultNetwork); err != nil {
		return nil, err
	}
	return s, nil
}

// Attach is Form for hosts that are a swarm already. It does not ask whether they
// are: see WaitHealthy.
func Attach(hosts []provision.Host, managers map[string]bool) (*Swarm, error) {
	s := &Swarm{}
	for _, h := range hosts {
		engine, err := dialEngine(h)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.nodes = append(s.nodes, &Node{Host: h, Manager: managers[h.Name()], Engine: engine})
	}
	return s, nil
}

// Disconnect ends the connections to the engines that no call uses now; the next
// call makes new ones.
func (s *Swarm) Disconnect() {
	for _, n := range s.nodes {
		n.Engine.HTTPClient().CloseIdleConnections()
	}
}

// WaitHealthy waits until every engine answers, every node is ready and there is
// a leader.
func (s *Swarm) WaitHealthy(ctx context.Context, timeout time.Duration) error {
	if err := s.waitEngines(ctx, Options{EngineTimeout: timeout, Progress: func(string, string) {}}); err != nil {
		return err
	}
	return s.waitReady(ctx, timeout)
}

// Services are the names of all services.
func (s *Swarm) Services(ctx context.Context) ([]string, error) {
	engine, host, err := s.Manager(ctx)
	if err != nil {
		return nil, err
	}
	listed, err := engine.ServiceList(ctx, swarm.ServiceListOptions{})
	if err != nil {
		return nil, fmt.Errorf("%s: list the services: %w", host, err)
	}
	var names []string
	for _, svc := range listed {
		names = append(names, svc.Spec.Name)
	}
	return names, nil
}

func dialEngine(h provision.Host) (*client.Client, error) {
	engine, err := client.NewClientWithOpts(
		client.WithHost("http://"+h.Name()),
		client.WithDialContext(func(ctx context.Context, _, _ string) (net.Conn, error) {
			return h.DialUnix(ctx, socket)
		}),
		client.WithAPIVersionNegotiation(),
	)
	if err != nil {
		return nil, fmt.Errorf("%s: make an engine client: %w", h.Name(), err)
	}
	return engine, nil
}

func (s *Swarm) waitEngines(ctx context.Context, opts Options) error {
	var wg sync.WaitGroup
	errs := make([]error, len(s.nodes))
	for i, n := range s.nodes {
		wg.Go(func() {
			started := time.Now()
			errs[i] = Until(ctx, opts.EngineTimeout, n.Name()+": wait for the engine", func(ctx context.Context) error {
				_, err := n.Engine.Ping(ctx)
				return err
			})
			if errs[i] != nil {
				errs[i] = errors.Join(errs[i], engineTrouble(ctx, n))
			} else {
				opts.Progress(n.Name(), fmt.Sprintf("engine answers after %.1fs", time.Since(started).Seconds()))
			}
		})
	}
	wg.Wait()
	return multierror.Append(nil, errs...).ErrorOrNil()
}

// engineTrouble is what the host says of an engine that does not answer.
func engineTrouble(ctx context.Context, n *Node) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	out, err := n.Run(ctx, "systemctl --no-pager -l -n 12 status docker.service || true", nil)
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: its engine:\n%s", n.Name(), strings.TrimSpace(string(out)))
}

func (s *Swarm) join(ctx context.Context, opts Options) error {
	first := s.nodes[0]
	listen := "0.0.0.0:" + clusterPort
	started := time.Now()
	if _, err := first.Engine.SwarmInit(ctx, swarm.InitRequest{
		ListenAddr: listen, AdvertiseAddr: first.Addr().String(), DataPathAddr: first.Addr().String(),
	}); err != nil {
		return fmt.Errorf("%s: initialise the swarm: %w", first.Name(), err)
	}
	opts.Progress(first.Name(), fmt.Sprintf("swarm initialised in %.1fs", time.Since(started).Seconds()))
	sw, err := first.Engine.SwarmInspect(ctx)
	if err != nil {
		return fmt.Errorf("%s: read the join tokens: %w", first.Name(), err)
	}
	for _, n := range s.nodes[1:] {
		token, role := sw.JoinTokens.Worker, "worker"
		if n.Manager {
			token, role = sw.JoinTokens.Manager, "manager"
		}
		started := time.Now()
		err := n.Engine.SwarmJoin(ctx, swarm.JoinRequest{
			ListenAddr: listen, AdvertiseAddr: n.Addr().String(), DataPathAddr: n.Addr().String(),
			RemoteAddrs: []string{net.JoinHostPort(first.Addr().String(), clusterPort)}, JoinToken: token,
		})
		if err != nil {
			return errors.Join(fmt.Errorf("%s: join the swarm as %s: %w", n.Name(), role, err), engineTrouble(ctx, n))
		}
		opts.Progress(n.Name(), fmt.Sprintf("joined as %s in %.1fs", role, time.Since(started).Seconds()))
	}
	return nil
}

// waitReady waits until the swarm knows every host, by its name, as ready and
// active, and each manager as reachable.
func (s *Swarm) waitReady(ctx context.Context, timeout time.Duration) error {
	return Until(ctx, timeout, "wait for all nodes to be ready", func(ctx context.Context) error {
		return s.Healthy(ctx)
	})
}

// Healthy says what is wrong with the swarm: a node that is not ready, a
// manager that is not reachable, no leader.
func (s *Swarm) Healthy(ctx context.Context) error {
	engine, _, err := s.Manager(ctx)
	if err != nil {
		return err
	}
	listed, err := engine.NodeList(ctx, swarm.NodeListOptions{})
	if err != nil {
		return fmt.Errorf("list the nodes: %w", err)
	}
	byName := map[string]swarm.Node{}
	leader := false
	for _, n := range listed {
		byName[n.Description.Hostname] = n
		leader = leader || n.ManagerStatus != nil && n.ManagerStatus.Leader
	}
	var problems *multierror.Error
	for _, n := range s.nodes {
		got, ok := byName[n.Name()]
		switch {
		case !ok:
			problems = multierror.Append(problems, fmt.Errorf("%s is not in the swarm", n.Name()))
		case got.Status.State != swarm.NodeStateReady || got.Spec.Availability != swarm.NodeAvailabilityActive:
			problems = multierror.Append(problems, fmt.Errorf("%s is %s and %s: %s", n.Name(), got.Status.State, got.Spec.Availability, got.Status.Message))
		case n.Manager && (got.ManagerStatus == nil || got.ManagerStatus.Reachability != swarm.ReachabilityReachable):
			problems = multierror.Append(problems, fmt.Errorf("%s is not a reachable manager", n.Name()))
		default:
			n.ID = got.ID
		}
	}
	if !leader {
		problems = multierror.Append(problems, errors.New("the swarm has no leader"))
	}
	return problems.ErrorOrNil()
}

func (s *Swarm) ensureNetwork(ctx context.Context, name string) error {
	engine, host, err := s.Manager(ctx)
	if err != nil {
		return err
	}
	_, err = engine.NetworkCreate(ctx, name, network.CreateOptions{Driver: "overlay", Attachable: true, Scope: "swarm"})
	if err != nil {
		return fmt.Errorf("%s: create network %s: %w", host, name, err)
	}
	return nil
}

// Nodes are the swarm's nodes in the order of the hosts.
func (s *Swarm) Nodes() []*Node { return s.nodes }

// Node finds a node by its host's name; nil if there is none.
func (s *Swarm) Node(name string) *Node {
	for _, n := range s.nodes {
		if n.Name() == name {
			return n
		}
	}
	return nil
}

// Manager returns the engine of a manager that answers, and its host's name: the
// one that answered last or, if it does not, whichever of all is first.
func (s *Swarm) Manager(ctx context.Context) (*client.Client, string, error) {
	if last := s.last.Load(); last != nil && last.ping(ctx, 3*time.Second) == nil {
		return last.Engine, last.Name(), nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		node *Node
		err  error
	}
	results := make(chan result, len(s.nodes))
	asked := 0
	for _, n := range s.nodes {
		if n.Manager {
			asked++
			go func() { results <- result{n, n.ping(ctx, 15*time.Second)} }()
		}
	}
	var problems *multierror.Error
	for range asked {
		r := <-results
		if r.err == nil {
			s.last.Store(r.node)
			return r.node.Engine, r.node.Name(), nil
		}
		problems = multierror.Append(problems, fmt.Errorf("%s: %w", r.node.Name(), r.err))
	}
	return nil, "", fmt.Errorf("no manager answers: %w", problems.ErrorOrNil())
}

func (n *Node) ping(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := n.Engine.Ping(ctx)
	return err
}

// Leader is the name of the host that leads now; empty if none does.
func (s *Swarm) Leader(ctx context.Context) (string, error) {
	engine, _, err := s.Manager(ctx)
	if err != nil {
		return "", err
	}
	listed, err := engine.NodeList(ctx, swarm.NodeListOptions{})
	if err != nil {
		return "", fmt.Errorf("list the nodes: %w", err)
	}
	for _, n := range listed {
		if n.ManagerStatus != nil && n.ManagerStatus.Leader {
			return n.Description.Hostname, nil
		}
	}
	return "", nil
}

// IngressAddresses returns, by host, the address that the host's ingress
// sandbox has on the ingress network: what a container sees as the source of
// everything that came in through the mesh on that host. A host whose sandbox
// has none is missing from the map.
func (s *Swarm) IngressAddresses(ctx context.Context) (map[string]netip.Addr, error) {
	all := map[string]netip.Addr{}
	for _, n := range s.nodes {
		inspected, err := n.Engine.NetworkInspect(ctx, "ingress", network.InspectOptions{})
		if err != nil {
			return nil, fmt.Errorf("%s: inspect the ingress network: %w", n.Name(), err)
		}
		sandbox, ok := inspected.Containers["ingress-sbox"]
		if !ok {
			continue
		}
		prefix, err := netip.ParsePrefix(sandbox.IPv4Address)
		if err != nil {
			return nil, fmt.Errorf("%s: address of the ingress sandbox: %w", n.Name(), err)
		}
		all[n.Name()] = prefix.Addr()
	}
	return all, nil
}

// Close ends the connections to the engines; the swarm goes on.
func (s *Swarm) Close() error {
	var problems *multierror.Error
	for _, n := range s.nodes {
		if err := n.Engine.Close(); err != nil {
			problems = multierror.Append(problems, fmt.Errorf("%s: close the engine client: %w", n.Name(), err))
		}
	}
	return problems.ErrorOrNil()
}

// Until tries until a condition holds. At the deadline its error is the last
// attempt's: that is the reason, the deadline alone would say nothing. After each try
// it pauses as long as the try took: on an emulated host tries that start processes,
// one upon the other, would keep the host from what is waited for.
func Until(ctx context.Context, timeout time.Duration, what string, try func(context.Context) error) error {
	deadline, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		start := time.Now()
		err := try(deadline)
		if err == nil {
			return nil
		}
		select {
		case <-deadline.Done():
			if ctx.Err() != nil {
				return fmt.Errorf("%s: %w", what, context.Cause(ctx))
			}
			return fmt.Errorf("%s: not within %s: %w", what, timeout, err)
		case <-time.After(min(max(time.Since(start), poll), maxPause)):
		}
	}
}
