package scenarios

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/hiveproof/hiveproof/probes"
	"github.com/hiveproof/hiveproof/provision/agentimage"
	"github.com/hiveproof/hiveproof/provision/swarm"
	"github.com/hiveproof/hiveproof/scenarios/recipe"
)

const (
	recogniseTimeout = 2 * time.Second // of one protocol
	// recognisePatience is how long a port may take to say anything that is known.
	recognisePatience = 60 * time.Second
)

// recognise finds out what the images speak that nothing is known of: published
// ports are asked, and the ports of internal services read from their images.
func (s *scenarioRun) recognise(ctx context.Context) error {
	for _, svc := range s.planned.Recipe.Services {
		if !s.d.Plain[svc.Name] || s.broken[svc.Name] != nil {
			continue
		}
		if len(svc.Ports) == 0 {
			ports, err := s.Site.Swarm.ExposedPorts(ctx, s.d.Images[svc.Name])
			if err != nil {
				return err
			}
			for _, text := range ports {
				number, proto, _ := strings.Cut(text, "/")
				if port, err := strconv.Atoi(number); err == nil {
					s.d.Listens[svc.Name] = append(s.d.Listens[svc.Name], agentimage.Listen{App: proto, Port: port, Proto: proto})
				}
			}
			continue
		}
		plain := false
		for _, p := range svc.Ports {
			app, isPlain, err := s.recognisePort(ctx, svc, p)
			if err != nil {
				return err
			}
			plain = plain || isPlain
			s.d.Listens[svc.Name] = append(s.d.Listens[svc.Name], agentimage.Listen{App: app, Port: int(p.Target), Proto: string(p.Protocol)})
			s.out.Notes = append(s.out.Notes, fmt.Sprintf("%s: port %d/%s speaks %s", svc.Name, p.Published, p.Protocol, app))
		}
		s.d.Plain[svc.Name] = plain
	}
	return nil
}

// recognisePort asks a port on one host after another, until one speaks a protocol
// that is known or the time is over: a server may need a while to start.
func (s *scenarioRun) recognisePort(ctx context.Context, svc *recipe.Service, p *recipe.Port) (app string, plain bool, err error) {
	app, plain = string(p.Protocol), true
	hosts := s.Site.Cluster.Hosts()
	clients, _ := s.reach([]probes.Endpoint{{Addr: netip.AddrPortFrom(hosts[0].Addr(), p.Published)}})
	if len(clients) == 0 {
		return app, plain, nil
	}
	round := 0
	_ = swarm.Until(ctx, recognisePatience, "recognise", func(ctx context.Context) error {
		at := netip.AddrPortFrom(hosts[round%len(hosts)].Addr(), p.Published)
		round++
		found, isPlain, err := probes.Recognise(ctx, clients[0], at, string(p.Protocol), recogniseTimeout)
		if err == nil && found == string(p.Protocol) {
			err = fmt.Errorf("%s speaks nothing that is known", at)
		}
		if err != nil {
			return err
		}
		app, plain = found, isPlain
		return nil
	})
	return app, plain, context.Cause(ctx)
}
