// Command ingress runs the ingress service as a process of its own.
package main

import (
	"github.com/postrider/postrider/services/ingress"
	"github.com/postrider/postrider/shared/service"
)

func main() { service.Main(ingress.Service) }
