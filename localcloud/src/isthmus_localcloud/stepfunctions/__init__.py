"""What LocalEmu's Step Functions engine lacks: SageMaker's ``.sync`` tasks and a JSONata evaluator."""
