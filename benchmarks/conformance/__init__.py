"""Small scripts that ask what a training sees, and who runs them: rig, SageMaker's toolkit, our program in it."""
