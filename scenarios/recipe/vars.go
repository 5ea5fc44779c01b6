package recipe

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseVarsFile reads the variables file at path, see ParseVars.
func ParseVarsFile(path string) (map[string]string, error) {
	src, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading variables: %w", err)
	}
	return ParseVars(path, src)
}

// ParseVars reads variables for Resolve: one YAML map, as in Ansible's group_vars.
// A scalar becomes the text that Ansible would put into a template: True of yes,
// 8 of 010, nothing of null. Lists, maps and !vault values are left out, for they
// are no text or nobody here can read them; a template that names them stays. name
// stands for the file in positions. On bad input the error is Problems.
func ParseVars(name string, src []byte) (map[string]string, error) {
	d := &decoder{complaints: &complaints{}}
	root := parseTree(name, src, d.complaints).root
	vars := make(map[string]string)
	if root != nil && root.kind != kindMap {
		d.complain(root.pos, "variables must be a map of names to values, not %s", root.describe())
	} else if root != nil {
		for _, e := range root.entries {
			if text, ok := e.value.rendered(); ok {
				vars[e.key.text] = text
			}
		}
	}
	if problems := d.complaints.sorted(); len(problems) > 0 {
		return nil, problems
	}
	return vars, nil
}

// rendered is a scalar as a template's text.
func (n *node) rendered() (text string, ok bool) {
	switch n.kind {
	case kindNull:
		return "", true
	case kindBool:
		if parseBool(n.text) {
			return "True", true
		}
		return "False", true
	case kindInt:
		if v, ok := parseInt(n.text); ok {
			return strconv.FormatInt(v, 10), true
		}
	case kindFloat:
		return strings.ReplaceAll(n.text, "_", ""), true
	case kindList, kindMap:
		return "", false
	}
	return n.text, n.tag != "!vault"
}
