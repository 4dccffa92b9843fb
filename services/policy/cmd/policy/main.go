// Command policy runs the policy service as a process of its own.
package main

import (
	"github.com/postrider/postrider/services/policy"
	"github.com/postrider/postrider/shared/service"
)

func main() { service.Main(policy.Service) }
