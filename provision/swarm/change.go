package swarm

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/jsonmessage"
	"github.com/hashicorp/go-multierror"
)

// Scale sets the number of a replicated service's replicas.
func (s *Swarm) Scale(ctx context.Context, service string, replicas int) error {
	engine, host, err := s.Manager(ctx)
	if err != nil {
		return err
	}
	fail := func(err error) error {
		return fmt.Errorf("%s: scale service %s to %d: %w", host, service, replicas, err)
	}
	current, _, err := engine.ServiceInspectWithRaw(ctx, service, swarm.ServiceInspectOptions{})
	if err != nil {
		return fail(err)
	}
	if current.Spec.Mode.Replicated == nil {
		return fail(fmt.Errorf("it is not a replicated service"))
	}
	n := uint64(replicas)
	current.Spec.Mode.Replicated.Replicas = &n
	if _, err := engine.ServiceUpdate(ctx, current.ID, current.Version, current.Spec, swarm.ServiceUpdateOptions{}); err != nil {
		return fail(err)
	}
	return nil
}

// Kill ends a task's container as its process's death would: at once.
func (s *Swarm) Kill(ctx context.Context, t Task) error {
	n := s.Node(t.Node)
	if n == nil || t.Container == "" {
		return fmt.Errorf("task %s of %s runs in no container of this site", t.ID, t.Service)
	}
	if err := n.Engine.ContainerKill(ctx, t.Container, "KILL"); err != nil {
		return fmt.Errorf("%s: kill a container of %s: %w", n.Name(), t.Service, err)
	}
	return nil
}

// Down says whether the swarm takes a host for dead.
func (s *Swarm) Down(ctx context.Context, host string) (bool, error) {
	engine, manager, err := s.Manager(ctx)
	if err != nil {
		return false, err
	}
	nodes, err := engine.NodeList(ctx, swarm.NodeListOptions{})
	if err != nil {
		return false, fmt.Errorf("%s: list the nodes: %w", manager, err)
	}
	for _, n := range nodes {
		if n.Description.Hostname == host {
			return n.Status.State == swarm.NodeStateDown, nil
		}
	}
	return false, fmt.Errorf("%s: no node is called %s", manager, host)
}

// VirtualIPs are a service's virtual addresses on the networks that its
// containers are in; none with dnsrr. The one on the ingress network is left out.
func (s *Swarm) VirtualIPs(ctx context.Context, service string) ([]netip.Addr, error) {
	engine, host, err := s.Manager(ctx)
	if err != nil {
		return nil, err
	}
	inspected, _, err := engine.ServiceInspectWithRaw(ctx, service, swarm.ServiceInspectOptions{})
	if err != nil {
		return nil, fmt.Errorf("%s: inspect service %s: %w", host, service, err)
	}
	ingress, err := engine.NetworkInspect(ctx, "ingress", network.InspectOptions{})
	if err != nil {
		return nil, fmt.Errorf("%s: inspect the ingress network: %w", host, err)
	}
	var all []netip.Addr
	for _, v := range inspected.Endpoint.VirtualIPs {
		if v.NetworkID == ingress.ID || v.Addr == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(v.Addr)
		if err != nil {
			return nil, fmt.Errorf("virtual address of service %s: %w", service, err)
		}
		all = append(all, prefix.Addr())
	}
	return all, nil
}

// ExposedPorts are the ports that an image says it listens on, such as "80/tcp", as
// the first host that has it knows them; none if no host has it.
func (s *Swarm) ExposedPorts(ctx context.Context, image string) ([]string, error) {
	for _, n := range s.nodes {
		inspected, err := n.Engine.ImageInspect(ctx, image)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: inspect image %s: %w", n.Name(), image, err)
		}
		if inspected.Config == nil {
			return nil, nil
		}
		return slices.Sorted(maps.Keys(inspected.Config.ExposedPorts)), nil
	}
	return nil, nil
}

// LoadImage loads an archive, in docker-load format, into the engines of all hosts
// at once. open is called for each of them.
func (s *Swarm) LoadImage(ctx context.Context, open func() (io.ReadCloser, error)) error {
	errs := make([]error, len(s.nodes))
	var wg sync.WaitGroup
	for i, n := range s.nodes {
		wg.Go(func() {
			if err := n.load(ctx, open); err != nil {
				errs[i] = fmt.Errorf("%s: load an image: %w", n.Name(), err)
			}
		})
	}
	wg.Wait()
	return multierror.Append(nil, errs...).ErrorOrNil()
}

func (n *Node) load(ctx context.Context, open func() (io.ReadCloser, error)) error {
	archive, err := open()
	if err != nil {
		return err
	}
	defer archive.Close()
	response, err := n.Engine.ImageLoad(ctx, archive, client.ImageLoadWithQuiet(true))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	// The engine says what went wrong in the stream, under a status of success.
	return jsonmessage.DisplayJSONMessagesStream(response.Body, io.Discard, 0, false, nil)
}

// BridgeAddress is an address on a host's docker_gwbridge, by which containers
// reach what is outside their overlay networks.
type BridgeAddress struct {
	Host      string
	Container string // its ID; empty for the bridge itself
	Addr      netip.Addr
}

// BridgeAddresses lists those of every host.
func (s *Swarm) BridgeAddresses(ctx context.Context) ([]BridgeAddress, error) {
	var all []BridgeAddress
	for _, n := range s.nodes {
		bridge, err := n.Engine.NetworkInspect(ctx, "docker_gwbridge", network.InspectOptions{})
		if err != nil {
			return nil, fmt.Errorf("%s: inspect docker_gwbridge: %w", n.Name(), err)
		}
		for _, c := range bridge.IPAM.Config {
			if gateway, err := netip.ParseAddr(c.Gateway); err == nil {
				all = append(all, BridgeAddress{Host: n.Name(), Addr: gateway})
			}
		}
		for id, c := range bridge.Containers {
			if prefix, err := netip.ParsePrefix(c.IPv4Address); err == nil {
				all = append(all, BridgeAddress{Host: n.Name(), Container: id, Addr: prefix.Addr()})
			}
		}
	}
	return all, nil
}
