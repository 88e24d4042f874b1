// Command helm reads manifests strictly, as the types that Kubernetes itself reads them as: a
// schema check without a schema to fetch.
//
//	helm template release CHART | go run . NAME
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

func main() {
	text, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = check(text)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%v: %v\n", os.Args[1:], err)
		os.Exit(1)
	}
}

// check reads each document of a rendering. Kinds of operators that may not be there, such as
// PodMonitor, are only counted.
func check(text []byte) error {
	read := map[string]int{}
	for _, doc := range bytes.Split(append([]byte("\n"), text...), []byte("\n---\n")) {
		var of struct{ Kind, APIVersion string }
		if err := yaml.Unmarshal(doc, &of); err != nil {
			return err
		}
		if of.Kind == "" {
			continue
		}
		into := map[string]any{
			"ConfigMap": &core.ConfigMap{}, "Service": &core.Service{}, "StatefulSet": &apps.StatefulSet{},
			"PodDisruptionBudget": &policy.PodDisruptionBudget{}, "NetworkPolicy": &networking.NetworkPolicy{},
			"PodMonitor": &map[string]any{},
		}[of.Kind]
		if into == nil {
			return fmt.Errorf("unknown kind %s", of.Kind)
		}
		if err := yaml.UnmarshalStrict(doc, into); err != nil {
			return fmt.Errorf("%s: %w", of.Kind, err)
		}
		read[of.Kind]++
	}
	if read["StatefulSet"] != 1 || read["ConfigMap"] != 1 || read["Service"] != 1 {
		return fmt.Errorf("rendered %v", read)
	}
	fmt.Println("read strictly:", read)
	return nil
}
