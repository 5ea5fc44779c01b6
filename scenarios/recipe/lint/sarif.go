package lint

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"path/filepath"

	pages "github.com/hiveproof/hiveproof/docs/rules"
)

// The part of SARIF 2.1.0 (OASIS Standard, sections 3.13 to 3.59) that is needed
// here. The libraries at hand write every property that the format knows.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool struct {
			Driver sarifDriver `json:"driver"`
		} `json:"tool"`
		ColumnKind  string            `json:"columnKind"`
		Invocations []sarifInvocation `json:"invocations"`
		Results     []sarifResult     `json:"results"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID            string       `json:"id"`
		Short         sarifMessage `json:"shortDescription"`
		Help          sarifMessage `json:"help"`
		Configuration struct {
			Level Severity `json:"level"`
		} `json:"defaultConfiguration"`
	}
	sarifInvocation struct {
		Successful    bool                `json:"executionSuccessful"`
		Notifications []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotification struct {
		Level     string          `json:"level"`
		Message   sarifMessage    `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifMessage struct {
		Text     string `json:"text"`
		Markdown string `json:"markdown,omitempty"`
	}
	sarifResult struct {
		RuleID       string             `json:"ruleId"`
		RuleIndex    int                `json:"ruleIndex"`
		Level        Severity           `json:"level"`
		Message      sarifMessage       `json:"message"`
		Locations    []sarifLocation    `json:"locations"`
		Suppressions []sarifSuppression `json:"suppressions"` // empty says that none applies
	}
	sarifSuppression struct {
		Kind          string        `json:"kind"`
		Justification string        `json:"justification"`
		Location      sarifLocation `json:"location"`
	}
	sarifLocation struct {
		Physical struct {
			Artifact struct {
				URI string `json:"uri"`
			} `json:"artifactLocation"`
			Region sarifRegion `json:"region"`
		} `json:"physicalLocation"`
		Logical []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn"`
	}
	sarifLogical struct {
		Name string `json:"name"`
		Kind string `json:"kind"`
	}
)

// WriteSARIF writes the report as SARIF 2.1.0 of a tool's version. What comments
// ignore is among the results, suppressed in source; what is no rule's (Note) is
// among the notifications of the invocation.
func WriteSARIF(w io.Writer, r *Report, version string) error {
	log := sarifLog{
		Schema:  "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
		Version: "2.1.0",
	}
	run := sarifRun{ColumnKind: "unicodeCodePoints", Results: []sarifResult{}}
	run.Tool.Driver = sarifDriver{Name: "hiveproof lint", Version: version}
	index := make(map[string]int)
	for i, rule := range Rules() {
		index[rule.ID] = i
		page, err := pages.Page(rule.ID)
		if err != nil {
			return err
		}
		out := sarifRule{ID: rule.ID, Short: sarifMessage{Text: rule.Title}, Help: sarifMessage{Text: page, Markdown: page}}
		out.Configuration.Level = rule.Severity
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, out)
	}
	invocation := sarifInvocation{Successful: true}
	for _, f := range r.Files {
		result := func(finding Finding) sarifResult {
			return sarifResult{
				RuleID: finding.Rule, RuleIndex: index[finding.Rule], Level: finding.Severity,
				Message:      sarifMessage{Text: finding.Message},
				Locations:    []sarifLocation{location(f.Path, finding.Line, finding.Column, finding.Service)},
				Suppressions: []sarifSuppression{},
			}
		}
		for _, finding := range f.Findings {
			run.Results = append(run.Results, result(finding))
		}
		for _, i := range f.Ignored {
			out := result(i.Finding)
			out.Suppressions = append(out.Suppressions, sarifSuppression{"inSource", i.Reason, location(f.Path, i.Comment.Line, i.Comment.Column, "")})
			run.Results = append(run.Results, out)
		}
		notify := func(level string, notes []Note) {
			for _, n := range notes {
				invocation.Notifications = append(invocation.Notifications, sarifNotification{
					level, sarifMessage{Text: n.Message}, []sarifLocation{location(f.Path, n.Line, n.Column, n.Service)}})
			}
		}
		notify("warning", f.BadIgnores)
		notify("note", f.Unresolved)
	}
	run.Invocations = []sarifInvocation{invocation}
	log.Runs = []sarifRun{run}
	return writeJSON(w, log)
}

func location(path string, line, column int, service string) sarifLocation {
	var l sarifLocation
	uri := url.URL{Path: filepath.ToSlash(path)}
	if filepath.IsAbs(path) {
		uri.Scheme = "file"
	}
	l.Physical.Artifact.URI = uri.String()
	l.Physical.Region = sarifRegion{line, column}
	if service != "" {
		l.Logical = []sarifLogical{{service, "object"}}
	}
	return l
}

// WriteJSON writes the report as JSON.
func WriteJSON(w io.Writer, r *Report) error { return writeJSON(w, r) }

func writeJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("writing what lint found: %w", err)
	}
	return nil
}
