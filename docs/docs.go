// Package docs holds those documents that the program prints.
package docs

import _ "embed"

// ScenarioSchema is the JSON Schema of scenario files.
//
//go:embed scenario.schema.json
var ScenarioSchema []byte
