package scenarios

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/go-multierror"
	"github.com/hiveproof/hiveproof/provision"
	"github.com/hiveproof/hiveproof/provision/swarm"
	"github.com/hiveproof/hiveproof/reports"
)

// capture starts recording packets; stop enters the file in the evidence. A
// provider that cannot record gives nil.
func (s *scenarioRun) capture() (stop func() error, err error) {
	recorder, ok := s.Site.Cluster.(provision.Recorder)
	if !ok || !provision.Has(s.Site.Cluster, provision.Capture) {
		s.out.Notes = append(s.out.Notes, "no packets are recorded: the provider cannot")
		return nil, nil
	}
	abs, rel, err := s.Store.EvidencePath(s.planned.Scenario.ID, "packets.pcapng")
	if err != nil {
		return nil, err
	}
	end, err := recorder.StartCapture(abs)
	if err != nil {
		return nil, err
	}
	return func() error {
		stats, err := end()
		if err != nil {
			return err
		}
		title := fmt.Sprintf("packets: %d frames in %.0fs, one interface a port", stats.Frames, stats.Duration.Seconds())
		if stats.Lost > 0 {
			title += fmt.Sprintf(", %d more not recorded", stats.Lost)
		}
		if stats.Truncated {
			title += ", ends early at the size limit"
		}
		s.out.Evidence = append(s.out.Evidence, reports.Evidence{Path: rel, Title: title, Kind: "pcapng"})
		return nil
	}, nil
}

// evidence writes what describes the site, and every observation.
func (s *scenarioRun) evidence(ctx context.Context) error {
	var problems *multierror.Error
	documents, err := s.Site.Swarm.DumpServices(ctx, s.d.names())
	if err != nil {
		problems = multierror.Append(problems, err)
	}
	hosts, err := s.Site.Swarm.DumpHosts(ctx, s.off)
	if err != nil {
		problems = multierror.Append(problems, err)
	}
	documents = append(documents, hosts...)
	if s.o != nil {
		doc, err := observationDocuments(s.o)
		if err != nil {
			problems = multierror.Append(problems, err)
		}
		documents = append(documents, doc...)
	}
	for _, doc := range documents {
		if err := s.write(doc); err != nil {
			problems = multierror.Append(problems, err)
		}
	}
	// What a reader of any single verdict wants at hand.
	for i := range s.out.Claims {
		for _, e := range s.out.Evidence {
			if e.Kind == "pcapng" || strings.HasSuffix(e.Path, exchangesFile) {
				s.out.Claims[i].Evidence = append(s.out.Claims[i].Evidence, e)
			}
		}
	}
	return problems.ErrorOrNil()
}

const exchangesFile = "exchanges.jsonl"

func (s *scenarioRun) write(doc swarm.Document) error {
	abs, rel, err := s.Store.EvidencePath(s.planned.Scenario.ID, doc.Name)
	if err != nil {
		return err
	}
	if err := os.WriteFile(abs, doc.Text, 0o644); err != nil {
		return fmt.Errorf("write evidence: %w", err)
	}
	kind := "text"
	if json.Valid(doc.Text) {
		kind = "json"
	}
	s.out.Evidence = append(s.out.Evidence, reports.Evidence{Path: rel, Title: doc.Title, Kind: kind})
	return nil
}

// observationDocuments are the observations as the checkers got them, so that a
// verdict can be judged again by anybody.
func observationDocuments(o *Observations) ([]swarm.Document, error) {
	state, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the observations: %w", err)
	}
	exchanges, err := jsonLines(o.all)
	if err != nil {
		return nil, err
	}
	documents := []swarm.Document{
		{Name: "observations.json", Title: "what was observed: hosts, clients, tasks, ingress addresses, ports", Text: state},
		{Name: exchangesFile, Title: "every exchange, one a line", Text: exchanges},
	}
	if all := slices.Concat(o.Visits, o.Reload.Before, o.Reload.After, o.Database); len(all) > 0 {
		text, err := jsonLines(all)
		if err != nil {
			return nil, err
		}
		documents = append(documents, swarm.Document{Name: "visits.jsonl", Title: "every visit through the load balancer, one a line", Text: text})
	}
	return documents, nil
}

func jsonLines[T any](all []T) ([]byte, error) {
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	for _, x := range all {
		if err := enc.Encode(x); err != nil {
			return nil, fmt.Errorf("write the observations: %w", err)
		}
	}
	return lines.Bytes(), nil
}
