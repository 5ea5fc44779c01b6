package swarm

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/docker/docker/api/types/swarm"
	"github.com/hashicorp/go-multierror"
)

// Document is one piece of evidence as text.
type Document struct {
	Name, Title string // Name is a file name
	Text        []byte
}

// hostStates are the commands whose output describes a host, run in one session each.
var hostStates = []struct{ name, title, command string }{
	{"ip-addr.txt", "ip addr", "ip -details addr"},
	{"ipvs.txt", "IPVS tables", `found=no
for ns in /run/docker/netns/*; do
	c=$(nsenter --net="$ns" ipvsadm -Ln 2>/dev/null)
	case $c in *"->"*"->"*) ;; *) continue ;; esac # more than the table's head
	found=yes
	echo "== ${ns##*/}"; echo "$c"
	echo "-- marks"; nsenter --net="$ns" iptables-save -t mangle 2>/dev/null | grep -- MARK
	echo "-- statistics"; nsenter --net="$ns" ipvsadm -Ln --stats 2>/dev/null
	echo
done
[ $found = yes ] || echo "no network namespace of this host has an IPVS service"`},
	{"engine.log", "engine log, its end", "journalctl -u docker.service -n 200 --no-pager -o short-precise"},
}

// DumpHosts describes every host as it is now, but for one that is off (its name, or
// empty). What could not be read is in the error; the rest is returned all the same.
func (s *Swarm) DumpHosts(ctx context.Context, off string) ([]Document, error) {
	results := make([][]Document, len(s.nodes))
	errs := make([]error, len(s.nodes))
	var wg sync.WaitGroup
	for i, n := range s.nodes {
		if n.Name() == off {
			continue
		}
		wg.Go(func() {
			var problems *multierror.Error
			for _, st := range hostStates {
				out, err := n.Run(ctx, st.command, nil)
				if err != nil {
					problems = multierror.Append(problems, fmt.Errorf("%s: %s: %w", n.Name(), st.title, err))
					continue
				}
				results[i] = append(results[i], Document{Name: n.Name() + "-" + st.name, Title: n.Name() + ": " + st.title, Text: out})
			}
			errs[i] = problems.ErrorOrNil()
		})
	}
	wg.Wait()
	var all []Document
	for _, r := range results {
		all = append(all, r...)
	}
	return all, multierror.Append(nil, errs...).ErrorOrNil()
}

// DumpServices describes services and tasks as the swarm has them.
func (s *Swarm) DumpServices(ctx context.Context, names []string) ([]Document, error) {
	engine, _, err := s.Manager(ctx)
	if err != nil {
		return nil, err
	}
	var problems *multierror.Error
	inspected := make([]swarm.Service, 0, len(names))
	for _, name := range names {
		service, _, err := engine.ServiceInspectWithRaw(ctx, name, swarm.ServiceInspectOptions{})
		if err != nil {
			problems = multierror.Append(problems, fmt.Errorf("inspect service %s: %w", name, err))
			continue
		}
		inspected = append(inspected, service)
	}
	tasks, err := s.Tasks(ctx, names...)
	if err != nil {
		problems = multierror.Append(problems, err)
	}
	nodes, err := engine.NodeList(ctx, swarm.NodeListOptions{})
	if err != nil {
		problems = multierror.Append(problems, fmt.Errorf("list the nodes: %w", err))
	}
	var lines strings.Builder
	for _, t := range tasks {
		fmt.Fprintf(&lines, "%s  %s  (desired %s, since %s)\n", t.ID, t.describe(), t.Desired, t.Since.Format("15:04:05.000"))
	}
	state, err := json.MarshalIndent(map[string]any{"services": inspected, "tasks": tasks, "nodes": nodes}, "", "  ")
	if err != nil {
		problems = multierror.Append(problems, fmt.Errorf("write the services' state: %w", err))
	}
	return []Document{
		{Name: "tasks.txt", Title: "tasks", Text: []byte(lines.String())},
		{Name: "swarm-state.json", Title: "services, tasks and nodes as the API gives them", Text: state},
	}, problems.ErrorOrNil()
}

// Versions are those of the first node's engine and kernel.
func (s *Swarm) Versions(ctx context.Context) (map[string]string, error) {
	n := s.nodes[0]
	info, err := n.Engine.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: ask the engine for its version: %w", n.Name(), err)
	}
	return map[string]string{
		"docker": info.ServerVersion,
		"kernel": info.KernelVersion,
		"os":     info.OperatingSystem,
	}, nil
}
